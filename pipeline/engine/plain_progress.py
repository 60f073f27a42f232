"""Progress without a terminal: a plain line every half minute, for logs and pipes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

EVERY = 30.0  # seconds between lines


@dataclass
class _Task:
    title: str
    total: float
    begun: float
    done: float = 0.0


class PlainProgress:
    """Says what is done, how fast, and how long it will take, whenever it is asked.

    Args:
        say:
            Prints a line.
        clock:
            Seconds, rising.
    """

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._clock = say, clock
        self._tasks: dict[int, _Task] = {}
        self._lock = threading.Lock()
        self._added = 0

    def add_task(self, title: str, total: float) -> int:
        """Follow something with so many steps; returns its number."""
        with self._lock:
            self._added += 1
            self._tasks[self._added] = _Task(title, total, self._clock())
            return self._added

    def advance(self, number: int, steps: float) -> None:
        """Note that some steps are done."""
        with self._lock:
            self._tasks[number].done += steps

    def remove_task(self, number: int) -> None:
        """Forget it."""
        with self._lock:
            del self._tasks[number]

    def refresh(self) -> None:
        """Nothing: lines that are printed stay."""

    def tell(self) -> None:
        """Print a line for everything that is not finished."""
        now = self._clock()
        with self._lock:
            lines = [_line(each, now) for each in self._tasks.values() if each.done < each.total]
        for line in lines:
            self._say(line)

    @contextmanager
    def telling(self, every: float = EVERY) -> Iterator[PlainProgress]:
        """Print lines every so many seconds, from a thread, until the end of the block."""
        end = threading.Event()

        def run() -> None:
            while not end.wait(every):
                self.tell()

        thread = threading.Thread(target=run, name="progress", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            end.set()
            thread.join()


def _line(task: _Task, now: float) -> str:
    """`extract: 120 of 400 (30 %), 4 a second, 1:10 left`."""
    seconds = now - task.begun
    said = f"{task.title}: {task.done:,.0f} of {task.total:,.0f}"
    if not task.done or seconds <= 0:
        return f"{said}, after {_clock_time(seconds)}"
    rate = task.done / seconds
    speed = f"{rate:.3g} a second" if rate >= 1 else f"{60 * rate:.3g} a minute"
    left = _clock_time((task.total - task.done) / rate)
    return f"{said} ({100 * task.done / task.total:.0f} %), {speed}, {left} left"


def _clock_time(seconds: float) -> str:
    """Hours, minutes and seconds: `1:02:03`, `2:03`."""
    minutes, second = divmod(round(max(seconds, 0.0)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
