"""Three steps for each of many items: read ahead in a thread, compute here, write in another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
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
    results are in memory. Closing the iterator ends both threads after what they are doing.

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

    def computed(item: T, future: Future[Read]) -> tuple[Future[None], int]:
        """What writes the result, and how many results may wait for it."""
        try:
            result = compute(item, future.result())
        except Exception as error:  # of this item alone
            failed: Future[None] = Future()
            failed.set_exception(error)
            return failed, 1
        return writer.submit(write, item, result), 0 if alone(result) else 1

    try:
        read_more()
        while reads:
            item, future = reads.popleft()
            read_more()
            written, most = computed(item, future)
            del future  # and with it what was read
            writes.append((item, written))
            while len(writes) > most:
                yield _ended(*writes.popleft())
        while writes:
            yield _ended(*writes.popleft())
    finally:
        for pool in (reader, writer):
            pool.shutdown(cancel_futures=True)


def _ended(item: T, written: Future[None]) -> tuple[T, Exception | None]:
    error = written.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return item, error
