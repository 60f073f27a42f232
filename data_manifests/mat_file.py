"""MATLAB files of version 5: one cell array or matrix of numbers, read piece by piece.

Masks of Avenue are a cell array with one matrix a frame, 331 MB for one video once unpacked. So
cells come one at a time, and nothing that a file claims is believed before its bytes are there.
Only numbers and cells of numbers are read. Structures, objects, functions and sparse matrices are
refused. Files of version 7.3 (HDF5) are another format.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from .record import ManifestError

HEADER = 128
COMPRESSED, MATRIX = 15, 14
CELL, NUMBERS = 1, range(6, 16)  # classes of arrays: double, single, int8 ... uint64
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MOST_BYTES = 1 << 26  # of one matrix: a mask of 8192 x 8192
CHUNK = 1 << 16


class MatError(ManifestError):
    """A file is no MATLAB file of version 5, is damaged, or holds something else."""


class _Source(Protocol):
    def take(self, n: int) -> bytes:
        """The next n bytes; MatError where there are fewer."""


class _Plain:
    """Bytes of the file itself."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def take(self, n: int) -> bytes:
        data = self._file.read(n)
        if len(data) != n:
            raise MatError("it is cut off")
        return data


class _Unpacked:
    """Bytes of a compressed element, unpacked as they are asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size
        self._unpack = zlib.decompressobj()
        self._ready = bytearray()

    def take(self, n: int) -> bytes:
        while len(self._ready) < n:
            packed = self._unpack.unconsumed_tail
            if not packed and self._left:
                packed = self._file.read(min(CHUNK, self._left))
                self._left -= len(packed)
            if not packed:
                raise MatError("it is cut off")
            try:
                self._ready += self._unpack.decompress(packed, CHUNK)
            except zlib.error as error:
                raise MatError(f"it is damaged ({error})") from error
        data = bytes(self._ready[:n])
        del self._ready[:n]
        return data


def read_cells(path: Path, name: str) -> Iterator[NDArray[Any]]:
    """The matrices of a variable, in MATLAB's order: one for each cell, or the matrix itself.

    Args:
        path:
            The file.
        name:
            Of the variable.

    Yields:
        Arrays of numbers, of two axes or more.

    Raises:
        MatError: the file does not exist, is not of this format, is damaged, or has no such
            variable; the message names it.
    """
    if not path.is_file():
        raise MatError(f"{path} does not exist: get it with the labels of the data set")
    with path.open("rb") as file:
        try:
            yield from _variable(file, name)
        except MatError as error:
            raise MatError(f"{path} cannot be read as a MATLAB file: {error}") from error


def _variable(file: BinaryIO, name: str) -> Iterator[NDArray[Any]]:
    head = file.read(HEADER)
    if len(head) < HEADER or head[126:128] not in (b"IM", b"MI"):
        kind = "version 7.3 (HDF5); save it with -v7" if b"7.3" in head[:20] else "another format"
        raise MatError(f"it is of {kind}, not of version 5")
    order = "<" if head[126:128] == b"IM" else ">"
    found = []
    while tag := file.read(8):
        if len(tag) < 8:
            raise MatError("it is cut off")
        kind, size = struct.unpack(f"{order}II", tag)
        start = file.tell()
        if kind == COMPRESSED:
            source: _Source = _Unpacked(file, size)
            kind = struct.unpack(f"{order}II", source.take(8))[0]
        else:
            source = _Plain(file)
        if kind != MATRIX:
            raise MatError(f"it has an element of type {kind} where a variable is expected")
        array_class, shape, own = _array_head(source, order)
        if own == name:
            yield from _values(source, order, array_class, shape)
            return
        found.append(own)
        file.seek(start + size)
    raise MatError(f"it has no variable {name!r}; it has: {', '.join(found) or 'none'}")


def _values(
    source: _Source, order: str, array_class: int, shape: tuple[int, ...]
) -> Iterator[NDArray[Any]]:
    if array_class != CELL:
        yield _numbers(source, order, array_class, shape)
        return
    for _ in range(math.prod(shape)):
        kind, size, _ = _tag(source, order)
        if kind != MATRIX:
            raise MatError(f"a cell is of type {kind}, not a matrix")
        if size == 0:  # an empty cell
            yield np.zeros((0, 0))
            continue
        inner_class, inner, _ = _array_head(source, order)
        yield _numbers(source, order, inner_class, inner)


def _array_head(source: _Source, order: str) -> tuple[int, tuple[int, ...], str]:
    """Class, shape and name of an array."""
    flags = _read(_element(source, order)[1], f"{order}u4")
    shape = _read(_element(source, order)[1], f"{order}i4")
    name = _element(source, order)[1].decode("ascii", "replace")
    if not len(flags) or not 2 <= len(shape) <= 32 or (shape < 0).any():
        raise MatError("an array has no shape")
    return int(flags[0]) & 0xFF, tuple(shape.tolist()), name


def _numbers(source: _Source, order: str, array_class: int, shape: tuple[int, ...]) -> NDArray[Any]:
    if array_class not in NUMBERS:
        raise MatError(f"an array of class {array_class} is no matrix of numbers")
    kind, data = _element(source, order)
    if kind not in TYPES:
        raise MatError(f"numbers of type {kind} are unknown")
    values = _read(data, f"{order}{TYPES[kind]}")
    if len(values) != math.prod(shape):
        raise MatError(f"a matrix of shape {shape} has {len(values)} values")
    return values.reshape(shape, order="F")


def _read(data: bytes, dtype: str) -> NDArray[Any]:
    if len(data) % np.dtype(dtype).itemsize:
        raise MatError(f"{len(data)} bytes are no whole number of values")
    return np.frombuffer(data, dtype)


def _element(source: _Source, order: str) -> tuple[int, bytes]:
    """Type and bytes of an element; it is padded to 8 bytes."""
    kind, size, small = _tag(source, order)
    if small is not None:
        return kind, small
    if size > MOST_BYTES:
        raise MatError(f"an element claims {size:,} bytes; refused")
    data = source.take(size)
    source.take(-size % 8)
    return kind, data


def _tag(source: _Source, order: str) -> tuple[int, int, bytes | None]:
    """Type, size and, of a small element, its bytes."""
    tag = source.take(8)
    first, size = struct.unpack(f"{order}II", tag)
    if first >> 16:
        if first >> 16 > 4:
            raise MatError("it is damaged (a small element of more than 4 bytes)")
        return first & 0xFFFF, first >> 16, tag[4 : 4 + (first >> 16)]
    return first, size, None
