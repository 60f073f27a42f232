"""What people see while something runs. It goes to stderr, so that stdout has results only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
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


@contextmanager
def progress_bars() -> Iterator[Callable[[str, float], Callable[[float], None]]]:
    """Several progress bars; yields a function that adds one and returns how to advance it."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:

        def add(title: str, total: float) -> Callable[[float], None]:
            bar = progress.add_task(title, total=total)
            return lambda step: progress.advance(bar, step)

        yield add
