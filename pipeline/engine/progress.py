"""What people see while something runs. It goes to stderr, so that stdout has results only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ...data_manifests.plain_text import plain

console = Console(stderr=True)


def tell(text: str, *, style: str | None = None) -> None:
    """Print lines to stderr as they are: names of files are never taken for markup."""
    console.print(plain(text), style=style, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(title: str, total: float) -> Iterator[Callable[[float], None]]:
    """A progress bar on stderr; yields the function that advances it."""
    with progress_bars() as add:
        yield add(title, total)


class _Display:
    """The one display of this process, which the bars of all its runs share.

    A terminal has room for one, and runs in several threads have bars at the same time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._progress: Progress | None = None

    def enter(self) -> Progress:
        """Take part in it; the first one shows it."""
        with self._lock:
            if self._progress is None:
                self._progress = _new_progress()
                self._progress.start()
            self._users += 1
            return self._progress

    def leave(self, bars: Iterable[TaskID]) -> None:
        """Take one's bars away, and the display after the last ones."""
        with self._lock:
            progress = self._progress
            assert progress is not None
            self._users -= 1
            if not self._users:
                self._progress = None
                progress.stop()  # draws them once more
                return
        progress.refresh()
        for bar in bars:
            progress.remove_task(bar)


_display = _Display()


@contextmanager
def progress_bars() -> Iterator[Callable[[str, float], Callable[[float], None]]]:
    """Several progress bars; yields a function that adds one and returns how to advance it."""
    progress = _display.enter()
    mine: list[TaskID] = []

    def add(title: str, total: float) -> Callable[[float], None]:
        bar = progress.add_task(title, total=total)
        mine.append(bar)
        return lambda step: progress.advance(bar, step)

    try:
        yield add
    finally:
        _display.leave(mine)


def _new_progress() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)
