"""What people see while something runs. It goes to stderr, so that stdout has results only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
from .plain_progress import PlainProgress
from .shared_context import SharedContext

console = Console(stderr=True)


def tell(text: str, *, style: str | None = None) -> None:
    """Print lines to stderr as they are: names of files are never taken for markup."""
    console.print(plain(text), style=style, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(title: str, total: float) -> Iterator[Callable[[float], None]]:
    """A progress bar on stderr, or without a terminal a line every half minute.

    Yields:
        The function that advances it.
    """
    with progress_bars() as add:
        yield add(title, total)


@contextmanager
def _shown() -> Iterator[Progress | PlainProgress]:
    if not console.is_terminal:
        with PlainProgress(tell).telling() as plain_lines:
            yield plain_lines
        return
    progress = _new_progress()
    progress.start()
    try:
        yield progress
    finally:
        progress.stop()  # draws the bars once more


# A terminal has room for one display, and runs in several threads have bars at the same time.
_display = SharedContext(_shown)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, float], Callable[[float], None]]]:
    """Several progress bars; yields a function that adds one and returns how to advance it."""
    progress: Any = _display.enter()
    mine: list[TaskID | int] = []

    def add(title: str, total: float) -> Callable[[float], None]:
        bar = progress.add_task(plain(title), total=total)
        mine.append(bar)
        return lambda step: progress.advance(bar, step)

    try:
        yield add
    finally:
        if not _display.leave():
            progress.refresh()
            for bar in mine:
                progress.remove_task(bar)


def _new_progress() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)
