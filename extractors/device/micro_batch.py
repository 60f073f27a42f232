"""How many items go through a network at once: measured once on each machine, then remembered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from ..base import TUNING
from ..errors import ExtractorError
from ..weights.kept import weights_dir
from .tuning import MOST_ITEMS, Tuning, processor

BETTER = 1.03  # a larger batch has to be this much faster: smaller ones need less memory
MISSES = 2  # the search ends after this many larger sizes that are no better
LONG_SECONDS = 1.0  # and after a batch that takes so long: what a larger one saves is less than 3 %
QUICK_SECONDS = 0.3
# Pixels (frames x height x width) of the largest batch that is tried.
MOST_PIXELS = {"cpu": 12 * 16 * 224 * 224, "cuda": 512 * 16 * 224 * 224}
# Errors of allocators: torch's own class on CUDA; on a CPU a RuntimeError with these words.
CPU_WORDS = ("not enough memory", "can't allocate memory")


class MicroBatches:
    """Batch sizes by network, precision and shape of an item, kept in a JSON file of the machine.

    Sizes that were found while memory was short are kept in this process only.

    Args:
        path:
            The file.

    Attributes:
        tuning: what the file keeps.
    """

    def __init__(self, path: Path) -> None:
        self.tuning = Tuning(path)

    def size(self, what: str, device: str, items: int, measure: Callable[[int], float]) -> int:
        """The batch size for something; measured if it is not known yet.

        Args:
            what:
                Names network, precision and shape.
            device:
                Where it runs.
            items:
                Most items to try.
            measure:
                Seconds that a batch of n takes; raises if memory runs out.

        Raises:
            ExtractorError: not even one item fits.
        """
        key = f"{processor(device)} {what}"
        with self.tuning.lock:
            found = self.tuning.find(key)
            if isinstance(found, int):
                return found
            size, enough = fastest(measure, items)
            if not size:
                half(1, what, device)
            self.tuning.note(key, size, keep=enough)
            return size

    def shrink(self, what: str, device: str, size: int) -> int:
        """Note that `size` items need too much memory; returns half of it.

        Raises:
            ExtractorError: not even one item fits.
        """
        less = half(size, what, device)
        self.tuning.note(f"{processor(device)} {what}", less, keep=False)
        return less


def half(size: int, what: str, device: str) -> int:
    """Half a batch, after one that was too large.

    Raises:
        ExtractorError: it was a single item.
    """
    if size <= 1:
        raise ExtractorError(
            f"{device} has not enough memory for a single item of {what}: resize to less, or use "
            "another device"
        )
    return size // 2


def fastest(measure: Callable[[int], float], items: int) -> tuple[int, bool]:
    """The batch size, a power of two, with the most items a second.

    Args:
        measure:
            Seconds that a batch of n takes; raises if memory runs out.
        items:
            Most items to try.

    Returns:
        The size (1 if nothing larger is at least 3 % faster, 0 if nothing fits into memory), and
        whether there was enough memory for all sizes that were tried. None is tried after one that
        takes a second.
    """
    best, best_rate, missed, size = 0, 0.0, 0, 1
    while size <= max(1, items) and missed < MISSES:
        try:
            seconds = measure(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return best, False
        if size / seconds > best_rate * BETTER:
            best, best_rate, missed = size, size / seconds, 0
        else:
            missed += 1
        if seconds >= LONG_SECONDS:
            break
        size *= 2
    return best, True


def seconds_of(run: Callable[[], object], device: str) -> float:
    """Seconds of a run, after one to warm up; of quick ones the better of two."""
    times: list[float] = []
    while len(times) < 2 or (len(times) < 3 and times[-1] < QUICK_SECONDS):
        begin = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def most_items(item: Tensor, device: str) -> int:
    """How many items of this shape (T, H, W, 3) are tried at most."""
    pixels = MOST_PIXELS["cpu" if device == "cpu" else "cuda"]
    return max(1, min(MOST_ITEMS, pixels // item[..., 0].numel()))


def even_parts(items: int, size: int) -> Iterator[slice]:
    """Split a batch into parts of at most `size` items; their lengths differ by one at most."""
    parts = -(-items // size)
    edges = [items * i // parts for i in range(parts + 1)] if parts else []
    return (slice(a, b) for a, b in pairwise(edges))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or a host has no memory left."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in CPU_WORDS)
    )


_shared: dict[Path, MicroBatches] = {}
_shared_lock = threading.Lock()


def shared_sizes(path: Path | None = None) -> MicroBatches:
    """Return the sizes of this process that are kept in a file.

    Args:
        path:
            The file; None takes `TUNING` in the default cache.
    """
    path = path or weights_dir().parent / TUNING
    with _shared_lock:
        return _shared.setdefault(path, MicroBatches(path))
