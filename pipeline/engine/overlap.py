"""Three steps for each of many items: read ahead in a thread, compute here, write in another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from traceback import clear_frames
from typing import TypeVar

T = TypeVar("T")
Read = TypeVar("Read")
Result = TypeVar("Result")

AHEAD = 2  # items that are read while another one is computed


def overlapped(
    items: Iterable[T],
    read: Callable[[T], Read],
    compute: Callable[[T, Read], Result],
    write: Callable[[T, Result], None],
    *,
    ahead: int = AHEAD,
    alone: Callable[[Result], bool] = lambda result: False,
) -> Generator[tuple[T, Exception | None], None, None]:
    """Take items through all steps, and yield each with what went wrong, in their order.

    An error costs one item only. At most `ahead` items that were read, one that is computed and two
    results are in memory. What was read is let go once it is computed, and also where that fails.
    Closing the iterator ends both threads after what they are doing.

    Args:
        items:
            What to work on.
        read:
            Called in one thread, item after item.
        compute:
            Called in the thread of the caller.
        write:
            Called in another thread, item after item.
        ahead:
            Items to read ahead.
        alone:
            Whether a result is so large that the next item waits until it is written.

    Yields:
        The item, and its error; None when it is written.
    """
    waiting = iter(items)
    reads: deque[tuple[T, Future[Read]]] = deque()
    writes: deque[tuple[T, Future[None]]] = deque()
    reader = ThreadPoolExecutor(1, thread_name_prefix="read ahead")
    writer = ThreadPoolExecutor(1, thread_name_prefix="write")

    def read_more() -> None:
        for item in waiting:
            reads.append((item, reader.submit(read, item)))
            if len(reads) == ahead:
                return

    try:
        read_more()
        while reads:
            item, future = reads.popleft()
            read_more()
            result = _tried(compute, item, future)
            del future  # and with it what was read: it does not wait for the writer
            if isinstance(result, _Failed):
                most = 1
                writes.append((item, result.as_future()))
            else:
                most = 0 if alone(result) else 1  # results that may wait
                writes.append((item, writer.submit(write, item, result)))
            del result
            while len(writes) > most:
                yield _ended(*writes.popleft())
        while writes:
            yield _ended(*writes.popleft())
    finally:
        for pool in (reader, writer):
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Failed:
    """What went wrong with one item."""

    error: Exception

    def as_future(self) -> Future[None]:
        failed: Future[None] = Future()
        failed.set_exception(self.error)
        return failed


def _tried(compute: Callable[[T, Read], Result], item: T, future: Future[Read]) -> Result | _Failed:
    try:
        return compute(item, future.result())
    except Exception as error:  # of this item alone
        return _Failed(_light(error))
    finally:
        del future  # the error refers to this frame


def _ended(item: T, written: Future[None]) -> tuple[T, Exception | None]:
    error = written.exception()
    if error is None:
        return item, None
    if not isinstance(error, Exception):
        raise error
    return item, _light(error)


def _light(error: Exception) -> Exception:
    """An error whose traceback keeps nothing in memory of what the steps had."""
    clear_frames(error.__traceback__)
    return error
