"""What all runs of this process use together: the first one begins it, the last one ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedContext(Generic[T]):
    """A context that is entered once for all of its users, which may be in several threads.

    Args:
        make:
            Makes the context; called again when all users had left and another one comes.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[T]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._users = 0
        self._entered: tuple[AbstractContextManager[T], T] | None = None

    def enter(self) -> T:
        """Become a user; returns what the context yields. Errors of the context are raised."""
        with self._lock:
            if self._entered is None:
                context = self._make()
                self._entered = context, context.__enter__()
            self._users += 1
            return self._entered[1]

    @contextmanager
    def used(self) -> Iterator[T]:
        """Be a user for a while."""
        value = self.enter()
        try:
            yield value
        finally:
            self.leave()

    def leave(self) -> bool:
        """Stop being a user; True for the last one, whose leaving has ended the context."""
        with self._lock:
            self._users -= 1
            if self._users:
                return False
            assert self._entered is not None
            (context, _), self._entered = self._entered, None
            context.__exit__(None, None, None)
            return True
