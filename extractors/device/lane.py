"""One thread for each device: networks take turns in it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

R = TypeVar("R")


@dataclass(frozen=True)
class Usage:
    """How long a device has worked in this process.

    Attributes:
        process: host, process and device, which name one lane among many.
        busy: seconds of work since the process began.
        waited: seconds without work while a caller was preparing some (`Lane.wanted`).
    """

    process: str
    busy: float
    waited: float


class Lane:
    """The thread of one device.

    Several videos are decoded at the same time; each hands its batches over to the lane and waits
    for them. So two batches never share a device, a CPU has one pool of threads for its networks,
    and the lane knows how long the device had nothing to do.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"lane-{device}")
        self._thread: int | None = None
        self._lock = threading.Lock()
        self._busy = self._waited = 0.0
        self._since = time.monotonic()  # last change of `_working` or `_wanted`
        self._working = False
        self._wanted = 0

    def run(self, work: Callable[[], R]) -> R:
        """Do a piece of work in the thread of the device; returns its value or raises its error.

        From inside the lane it runs at once: waiting for its own thread would never end.
        """
        if threading.get_ident() == self._thread:
            return work()
        return self._executor.submit(self._measure, work).result()

    def _measure(self, work: Callable[[], R]) -> R:
        self._thread = threading.get_ident()
        self._turn(working=True)
        try:
            return work()
        finally:
            self._turn(working=False)

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """While this is open, a device without work counts as waiting."""
        self._turn(wanted=1)
        try:
            yield
        finally:
            self._turn(wanted=-1)

    def _turn(self, *, working: bool | None = None, wanted: int = 0) -> None:
        """Count the time since the last change, then change the state."""
        with self._lock:
            now = time.monotonic()
            if self._working:
                self._busy += now - self._since
            elif self._wanted:
                self._waited += now - self._since
            self._since = now
            self._working = self._working if working is None else working
            self._wanted += wanted

    def usage(self) -> Usage:
        """What the device has done so far."""
        self._turn()
        process = f"{os.uname().nodename}-{os.getpid()}-{self.device}"
        return Usage(process, self._busy, self._waited)


_lanes: dict[str, Lane] = {}
_lock = threading.Lock()


def lane_of(device: str) -> Lane:
    """The lane of a device; each process has one."""
    with _lock:
        if device not in _lanes:
            _lanes[device] = Lane(device)
        return _lanes[device]
