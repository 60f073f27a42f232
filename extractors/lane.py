"""One thread for each device: networks take turns in it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

R = TypeVar("R")


@dataclass(frozen=True)
class Usage:
    """How much a device has worked in this process.

    Attributes:
        process: host, process and device, to tell many of them apart.
        busy: seconds of work since the process began.
        since: seconds from the first piece of work until now; 0 before there was any.
    """

    process: str
    busy: float
    since: float


class Lane:
    """The thread of one device.

    Videos are decoded at the same time, and each hands its batches over and waits for them. So
    two batches never share a device, a CPU has one pool of threads for its networks, and one can
    tell how long the device had nothing to do.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"lane-{device}")
        self._thread: int | None = None
        self._busy = 0.0
        self._first: float | None = None

    def run(self, work: Callable[[], R]) -> R:
        """Do a piece of work in the thread of the device; gives its value or raises its error."""
        if threading.get_ident() == self._thread:
            return work()
        return self._executor.submit(self._measure, work).result()

    def _measure(self, work: Callable[[], R]) -> R:
        self._thread = threading.get_ident()
        begin = time.monotonic()
        if self._first is None:
            self._first = begin
        try:
            return work()
        finally:
            self._busy += time.monotonic() - begin

    def usage(self) -> Usage:
        """What the device has done so far."""
        since = 0.0 if self._first is None else time.monotonic() - self._first
        return Usage(f"{os.uname().nodename}-{os.getpid()}-{self.device}", self._busy, since)


_lanes: dict[str, Lane] = {}
_lock = threading.Lock()


def lane_of(device: str) -> Lane:
    """The lane of a device, one a process."""
    with _lock:
        return _lanes.setdefault(device, Lane(device))
