"""Three steps for each of many items: read ahead in a thread, compute here, write in another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from traceback import clear_frames
from typing import Any, Generic, TypeVar

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


def overlapped_groups(
    groups: Iterable[Sequence[T]],
    read: Callable[[T], Read],
    compute: Callable[[list[Read]], list[Result]],
    write: Callable[[T, Result], None],
    *,
    ahead: int = AHEAD,
    alone: Callable[[Result], bool] = lambda result: False,
) -> Generator[tuple[T, Exception | None], None, None]:
    """`overlapped` for items of which several are computed together; an error costs one item only.

    Args:
        groups:
            Items that are computed together.
        read:
            As for `overlapped`.
        compute:
            Of a group, without items that could not be read. Where it fails, it is called for each
            item by itself.
        write:
            As for `overlapped`.
        ahead:
            Groups to read ahead.
        alone:
            As for `overlapped`; the next group waits.

    Yields:
        As `overlapped` does, item by item.
    """

    def read_all(group: _Group[T]) -> list[Read | _Failed]:
        return [_attempt(read, item) for item in group.items]

    def compute_all(group: _Group[T], reads: list[Read | _Failed]) -> list[Result | _Failed]:
        sound = [each for each in reads if not isinstance(each, _Failed)]
        computed = _computed(compute, sound)
        results = iter(computed)
        return [each if isinstance(each, _Failed) else next(results) for each in reads]

    def write_all(group: _Group[T], results: list[Result | _Failed]) -> None:
        for place, (item, result) in enumerate(zip(group.items, results, strict=True)):
            failed = result if isinstance(result, _Failed) else _attempt(write, item, result)
            if isinstance(failed, _Failed):
                group.errors[place] = failed.error

    def large(results: list[Result | _Failed]) -> bool:
        return any(not isinstance(each, _Failed) and alone(each) for each in results)

    waiting = (_Group(items) for items in groups)
    ends = overlapped(waiting, read_all, compute_all, write_all, ahead=ahead, alone=large)
    with closing(ends):
        for group, error in ends:
            for place, item in enumerate(group.items):
                yield item, error or group.errors.get(place)


class _Group(Generic[T]):
    """Items that are computed together, and what went wrong with some, by their place."""

    def __init__(self, items: Sequence[T]) -> None:
        self.items = items
        self.errors: dict[int, Exception] = {}


def _computed(
    compute: Callable[[list[Read]], list[Result]], reads: list[Read]
) -> list[Result | _Failed]:
    if len(reads) > 1:
        together = _attempt(compute, reads)
        if not isinstance(together, _Failed):
            return [*together]
    alone = [_attempt(compute, [each]) for each in reads]
    return [each if isinstance(each, _Failed) else each[0] for each in alone]


def _attempt(step: Callable[..., Result], *args: Any) -> Result | _Failed:
    try:
        return step(*args)
    except Exception as error:  # of one item alone
        return _Failed(_light(error))


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
