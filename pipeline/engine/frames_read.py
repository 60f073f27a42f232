"""How far the tasks of a run are, told frame by frame: a span may take ten minutes.

Tasks of a run count here while they read. A task in another process cannot: it counts as a whole
when it ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

EVERY_SECONDS = 0.5  # between two steps that one task tells of

_FOLLOWED: dict[str, FramesRead] = {}  # by the name of the run


class FramesRead:
    """The frames of a run that are done, of tasks that are at work and of those that have ended.

    Args:
        advance:
            Called with how many more are done. It is called from several threads, and with a
            negative number where frames have to be read again.
    """

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._advance = advance
        self._counted: dict[Hashable, int] = {}  # task at work -> its frames that were told
        self._lock = threading.Lock()

    def read(self, task: Hashable, frames: int) -> None:
        """Note how many frames a task that is at work has read by now.

        An attempt that begins again tells of fewer than the one before it: the count waits.
        """
        with self._lock:
            more = frames - self._counted.get(task, 0)
            if more > 0:
                self._counted[task] = frames
        if more > 0:
            self._advance(more)

    def ended(self, task: Hashable, frames: int) -> None:
        """Note the end of a task of so many frames, whatever it has told before."""
        with self._lock:
            rest = frames - self._counted.pop(task, 0)
        if rest:
            self._advance(rest)

    def again(self, frames: int) -> None:
        """Note that frames which are done have to be read once more."""
        self._advance(-frames)


@contextmanager
def following(run: str, advance: Callable[[float], None]) -> Iterator[FramesRead]:
    """Follow the tasks of a run in this process until the end of the block."""
    _FOLLOWED[run] = followed = FramesRead(advance)
    try:
        yield followed
    finally:
        del _FOLLOWED[run]


class Teller:
    """Tells how far one task is, a few times a second at most.

    Args:
        run:
            That the task belongs to.
        task:
            Its name, the same in each attempt.
        start:
            Its first frame.
        frames:
            Of the task.
        clock:
            Seconds, rising.
    """

    def __init__(
        self,
        run: str,
        task: Hashable,
        start: int,
        frames: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._followed = _FOLLOWED.get(run)
        self._task, self._start, self._frames, self._clock = task, start, frames, clock
        self._told = clock()

    def read(self, index: int) -> None:
        """Note that the frame of this number was read, and those before it were read or left out.

        A file may have more frames than its header says: these are not counted.
        """
        if self._followed is None or (now := self._clock()) - self._told < EVERY_SECONDS:
            return
        self._told = now
        self._followed.read(self._task, min(index + 1 - self._start, self._frames))
