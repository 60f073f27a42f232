"""One shard: an HDF5 file with the arrays of a span, its attributes and its checksum."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...extractors.base import ArraySpec
from .errors import StoreError

CHUNK_BYTES = 1 << 18


UNREADABLE = (OSError, KeyError, StoreError)
"""What reading a shard raises that is not whole (see `row_of`)."""


@dataclass(frozen=True)
class ShardRow:
    """One shard, as the index lists it.

    Attributes:
        content_id: the video.
        frame_start: first frame, as planned.
        frame_stop: one past the last, as planned by the probe (the shard's own attributes say
            what the decoder really gave).
        rows: rows of each array.
        size: bytes on disk.
        checksum: sha256 over the arrays.
        last: the video ends in it; None in index parts of older versions.
        damaged: frames that the decoder marked as damaged; None likewise.
    """

    content_id: str
    frame_start: int
    frame_stop: int
    rows: int
    size: int
    checksum: str
    last: bool | None = None
    damaged: int | None = None


@dataclass(frozen=True)
class VideoFacts:
    """What a span's shard says of its video beside the arrays."""

    fps: float
    n_frames: int | None
    """Frames by the decoder, known to the last span only."""
    flags: tuple[str, ...] = ()
    damaged: int = 0
    """Frames of this span that the decoder marked as damaged."""


class ShardedArray:
    """One array of one video, read slice by slice from its shards."""

    def __init__(self, parts: Sequence[tuple[Path, int, int]], name: str) -> None:
        """Join rows [start, stop) of each part's data set `name`."""
        self._parts = [p for p in parts if p[2] > p[1]] or list(parts[:1])
        self._name = name
        self._offsets = np.cumsum([0] + [stop - start for _, start, stop in self._parts])
        with h5py.File(self._parts[0][0], "r") as file:
            dataset = checked_dataset(file, name)
            self._tail: tuple[int, ...] = dataset.shape[1:]
            self._dtype: np.dtype[Any] = dataset.dtype

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
        pieces = [np.empty((0, *self._tail), self._dtype)]
        for (path, first, _), low, high in zip(
            self._parts, self._offsets[:-1], self._offsets[1:], strict=True
        ):
            a, b = max(start, int(low)), min(stop, int(high))
            if a < b:
                with h5py.File(path, "r") as file:
                    at = first - int(low)
                    pieces.append(checked_dataset(file, self._name)[a + at : b + at])
        return np.concatenate(pieces)


def checked_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A plain data set of this very file.

    Raises:
        StoreError: it is absent, a link elsewhere, external or virtual.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise StoreError(f"{file.filename}: no data set {name!r}")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise StoreError(f"{file.filename}: {name!r} is not a plain data set; refused")
    return dataset


def check_arrays(
    arrays: Mapping[str, NDArray[Any] | pa.Table], specs: Sequence[ArraySpec], rows: int
) -> None:
    """Compare arrays with what their specs promise.

    Raises:
        StoreError: an array is missing, unexpected, or of another shape or type.
    """
    wanted = {spec.name: spec for spec in specs}
    if set(arrays) != set(wanted):
        raise StoreError(f"arrays {sorted(arrays)} are not the promised {sorted(wanted)}")
    for name, values in arrays.items():
        spec = wanted[name]
        if isinstance(values, pa.Table):
            if not {"frame_start", "frame_stop"} <= set(values.column_names):
                raise StoreError(f"table {name!r} lacks frame_start / frame_stop columns")
        elif values.shape != (rows, *spec.shape) or values.dtype != np.dtype(spec.dtype):
            raise StoreError(
                f"array {name!r} is {values.dtype} {values.shape}, "
                f"promised {spec.dtype} {(rows, *spec.shape)}"
            )


def file_image(
    plain: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any], specs: Sequence[ArraySpec]
) -> bytes:
    """An HDF5 file made in memory: a full disk then meets a plain write, and not the library,
    which would leave a file open that it cannot close."""
    size = sum(values.nbytes for values in plain.values()) + (1 << 16)
    with h5py.File(uuid.uuid4().hex, "w", driver="core", backing_store=False, block_size=size) as f:
        f.attrs.update(attrs)
        for name, values in plain.items():
            _write_dataset(f, name, values)
        for spec in specs:
            if spec.name in plain:
                _describe(f[spec.name], spec)
        f.flush()
        image: bytes = f.id.get_file_image()
    return image


def _write_dataset(file: h5py.File, name: str, values: NDArray[Any]) -> None:
    row_bytes = max(1, values[:1].nbytes)
    rows = max(1, min(len(values), CHUNK_BYTES // row_bytes))
    chunks = (rows, *values.shape[1:]) if len(values) else None
    file.create_dataset(name, data=values, chunks=chunks)


def _describe(dataset: h5py.Dataset, spec: ArraySpec) -> None:
    dataset.attrs["dims"] = list(spec.dims)
    if spec.role is not None:
        dataset.attrs["role"] = spec.role
    if spec.grid is not None:
        dataset.attrs["grid"] = spec.grid
    for name, value in spec.attrs:
        dataset.attrs[name] = value


def table_path(shard: Path, name: str) -> Path:
    """Where a table of a shard lies: beside it."""
    return shard.with_suffix(f".{name}.parquet")


def checksum_of(plain: Mapping[str, NDArray[Any]], tables: Mapping[str, Path]) -> str:
    """sha256 over names, dtypes, shapes and values of the arrays, and over the tables."""
    digest = hashlib.sha256()
    for name, values in sorted(plain.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape};".encode())
        digest.update(np.ascontiguousarray(values).data)
    for name, path in sorted(tables.items()):
        digest.update(f"{name};".encode() + path.read_bytes())
    return digest.hexdigest()


def verify_shard(path: Path, tables: Mapping[str, Path] | None) -> dict[str, Any]:
    """Attributes of a shard whose arrays match its checksum; raises StoreError otherwise."""
    with h5py.File(path, "r") as file:
        plain = {name: checked_dataset(file, name)[:] for name in file}
        attrs = dict(file.attrs)
    if tables is None:
        tables = {p.name.split(".")[1]: p for p in path.parent.glob(f"{path.stem}.*.parquet")}
    if checksum_of(plain, tables) != attrs["checksum"]:
        raise StoreError("arrays do not match the checksum")
    return attrs


def row_of(path: Path) -> ShardRow:
    """The index row of a shard on disk.

    Raises:
        StoreError, OSError, KeyError: it is no whole shard (`UNREADABLE`).
    """
    with h5py.File(path, "r") as file:
        a = file.attrs
        return ShardRow(
            str(a["content_id"]),
            int(a["frame_start"]),
            int(a["frame_stop"]),
            len(checked_dataset(file, "frame_start")),
            path.stat().st_size,
            str(a["checksum"]),
            bool(a["last"]),
            int(a.get("damaged", 0)),
        )
