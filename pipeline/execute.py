"""One engine for every run: dask.distributed, in process by default; results come one by one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import dask
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client, KilledWorker, as_completed
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from .store import write_atomically

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 4  # tasks in flight for each thread: the coordinator's memory stays flat

console = Console(stderr=True)


@dataclass(frozen=True)
class Failure:
    """One video that failed at one stage."""

    video_id: str
    stage: str
    error: str
    message: str


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """What became of one task: a value or an error."""

    task: T
    value: R | None
    error: BaseException | None


@contextmanager
def open_client(*, workers: int = 0, threads: int = 1) -> Iterator[Client]:
    """A dask client: threads of this process, or local worker processes. Loopback only.

    Args:
        workers:
            Local processes; 0 runs in this process.
        threads:
            Threads a worker.
    """
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with dask.config.set({"distributed.worker.daemon": False}):
        client = Client(
            processes=workers > 0,
            n_workers=max(1, workers),
            threads_per_worker=threads,
            memory_limit=0,
            # Both would listen on all interfaces otherwise, dashboard or not.
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            host="127.0.0.1" if workers else None,
        )
    try:
        yield client
    finally:
        client.close()
        if client.cluster is not None:
            client.cluster.close()


def run_tasks(client: Client, run: Callable[[T], R], tasks: Iterable[T]) -> Iterator[Outcome[T, R]]:
    """Run every task, give each outcome as it comes; one that fails costs only itself.

    A task whose worker process dies is tried again by the scheduler, then given up; one that
    raises is not, as the same file would fail again. The scheduler also blames tasks that merely
    shared the dead worker: all suspects are run once more at the end, one by one.
    """
    suspects: list[T] = []
    for outcome in _run_together(client, run, tasks):
        if isinstance(outcome.error, KilledWorker):
            suspects.append(outcome.task)
        else:
            yield outcome
    for task in suspects:
        yield from _run_together(client, run, [task])


def _run_together(
    client: Client, run: Callable[[T], R], tasks: Iterable[T]
) -> Iterator[Outcome[T, R]]:
    threads = sum(client.nthreads().values())
    queue = iter(tasks)
    running: dict[Any, T] = {}
    completed = as_completed()

    def submit() -> None:
        for task in queue:
            future = client.submit(run, task, pure=False)
            running[future] = task
            completed.add(future)
            return

    for _ in range(threads * AHEAD):
        submit()
    for future in completed:
        task = running.pop(future)
        try:
            yield Outcome(task, future.result(), None)
        except Exception as error:  # whatever a video does to us is a row in the failures
            yield Outcome(task, None, error)
        future.release()
        submit()
        if not running:
            break


@contextmanager
def progress_bar(title: str, total: float) -> Iterator[Callable[[float], None]]:
    """A progress bar on stderr; the value is a function that advances it."""
    with progress_bars() as add:
        yield add(title, total)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, float], Callable[[float], None]]]:
    """Several progress bars; the value adds one and gives the function that advances it."""
    columns = (
        TextColumn("{task.description}"),
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


def describe_failure(video_id: str, stage: str, error: BaseException) -> Failure:
    """A failure row of an exception."""
    return Failure(video_id, stage, type(error).__name__, str(error) or repr(error))


FAILURE_SCHEMA = pa.schema([(n, pa.string()) for n in ("video_id", "stage", "error", "message")])


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """Write failures.parquet (also when there are none)."""
    rows = [vars(f) for f in failures]
    table = pa.Table.from_pylist(rows, schema=FAILURE_SCHEMA)
    write_atomically(path, lambda p: pq.write_table(table, p))


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
