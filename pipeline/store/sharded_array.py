"""One array of one video, read row by row from its shards without loading the video.

Contiguous data sets (format 2) are mapped into memory; each is checked once, and its map stays open
while it is among those used last. Chunked ones (format 1) are read through HDF5.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import StoreError
from .facts import format_of
from .shard import facts_at, opened_shard, row_dataset

T = TypeVar("T")

MOST_OPEN = 256  # maps: each holds a file descriptor, and a process may often have 1,024 only
MOST_CHECKED = 1 << 16  # data sets: one that was checked is mapped again in microseconds

Key = tuple[str, str, int, int, int]  # path, data set, inode, size, time of the last change

_lock = threading.Lock()
_open: OrderedDict[Key, NDArray[Any]] = OrderedDict()
_checked: OrderedDict[Key, _Extent | None] = OrderedDict()


@dataclass(frozen=True)
class _Extent:
    """Where the values of a contiguous data set lie in its file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Part:
    """Rows [start, stop) of one shard."""

    path: Path
    start: int
    stop: int


class ShardedArray:
    """Rows of one array, joined over the shards of a video.

    Args:
        parts:
            Which rows of which shards, in order of time.
        axis:
            The row axis.
        name:
            Of the array.
        promised:
            Type and shape of a row, as the recipe states them; None takes what the first shard has.

    Raises:
        StoreError: the first shard does not hold what was promised.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        axis: str,
        name: str,
        promised: tuple[np.dtype[Any], tuple[int, ...]] | None = None,
    ) -> None:
        self._parts = [p for p in parts if p.stop > p.start] or list(parts[:1])
        self._axis = axis
        self._name = name
        self._offsets = np.cumsum([0] + [p.stop - p.start for p in self._parts])
        with opened_shard(self._parts[0].path) as file:
            dataset = row_dataset(file, format_of(file), axis, name)
            self._tail: tuple[int, ...] = dataset.shape[1:]
            self._dtype: np.dtype[Any] = dataset.dtype
        if promised is not None and promised != (self._dtype, self._tail):
            raise StoreError(
                f"{self._parts[0].path}: {name!r} is {self._dtype} {self._tail}, but the recipe "
                f"states {promised[0]} {promised[1]}; see vadpipe cache verify"
            )

    @property
    def axis(self) -> str:
        """The row axis."""
        return self._axis

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, ...)."""
        return (int(self._offsets[-1]), *self._tail)

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored."""
        return self._dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError("shards are sliced with step 1")
        out = np.empty((max(0, stop - start), *self._tail), self._dtype)
        self.read_into(out, start)
        return out

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Copy rows [start, start + len(out)) into `out`.

        Raises:
            StoreError: a shard is damaged or was replaced by something else.
        """
        stop = start + len(out)
        first = int(np.searchsorted(self._offsets, start, side="right")) - 1
        for part, low, high in zip(
            self._parts[first:], self._offsets[first:-1], self._offsets[first + 1 :], strict=True
        ):
            a, b = max(start, int(low)), min(stop, int(high))
            if a >= b:
                break
            at = part.start - int(low)
            copy_rows(part.path, self._axis, self._name, a + at, out[a - start : b - start])


def copy_rows(path: Path, axis: str, name: str, start: int, out: NDArray[Any]) -> None:
    """Copy rows [start, start + len(out)) of an array of one shard into `out`.

    Raises:
        StoreError: the shard is damaged or was replaced by something else.
    """
    stop = start + len(out)
    values = mapped(path, axis, name)
    if values is None:
        with opened_shard(path) as file:
            values = row_dataset(file, format_of(file), axis, name)[start:stop]
        start, stop = 0, len(out)
    if values.shape[1:] != out.shape[1:] or values.dtype != out.dtype or stop > len(values):
        raise StoreError(f"{path}: {name!r} is not what the other shards hold")
    out[...] = values[start:stop]


def mapped(path: Path, axis: str, name: str) -> NDArray[Any] | None:
    """A contiguous data set of a shard as a read-only map of the file; None for a chunked one.

    It is checked once, and again only if another file has taken its place.

    Raises:
        StoreError: it is no plain data set of this file, the file is too short for it, or it is the
            shard of another place.
        OSError: the file cannot be read.
    """
    stat = path.stat()
    key = (str(path), f"{axis}/{name}", stat.st_ino, stat.st_size, stat.st_mtime_ns)
    with _lock:
        if key in _open:
            _open.move_to_end(key)
            return _open[key]
        known = key in _checked
        extent = _checked.get(key)
    if not known:
        extent = _check(path, axis, name, stat.st_size)
    values = None
    if extent is not None:
        values = np.memmap(path, extent.dtype, "r", extent.offset, extent.shape)
    with _lock:
        _keep(_checked, key, extent, MOST_CHECKED)
        if values is not None:
            _keep(_open, key, values, MOST_OPEN)
    return values


def _keep(entries: OrderedDict[Key, T], key: Key, value: T, most: int) -> None:
    entries[key] = value
    entries.move_to_end(key)
    while len(entries) > most:
        entries.popitem(last=False)


def _check(path: Path, axis: str, name: str, size: int) -> _Extent | None:
    with opened_shard(path) as file:
        dataset = row_dataset(file, facts_at(file, path).format, axis, name)
        if dataset.chunks is not None or dataset.size == 0:
            return None
        offset, shape, dtype = dataset.id.get_offset(), dataset.shape, dataset.dtype
    if offset is None or offset + dtype.itemsize * int(np.prod(shape)) > size:
        raise StoreError(f"{path}: {name!r} is not wholly in the file")
    return _Extent(offset, shape, dtype)


def forget_maps(folder: Path) -> None:
    """Let go of the maps of files under a folder that is deleted: they would keep its blocks."""
    inside = f"{folder}/"
    with _lock:
        for kept in (_open, _checked):
            for key in [key for key in kept if key[0].startswith(inside)]:
                del kept[key]
