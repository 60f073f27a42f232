"""One shard: an HDF5 file with the arrays of a span, its attributes and its checksum.

Format 2 has one group per axis ("snippet", "frame", "object", ...) with `frame_start`,
`frame_stop`, for ragged axes `clip_start`, and the arrays. Data sets are contiguous: nothing is
compressed or appended, and a contiguous one can be mapped into memory. Format 3 has the same data
sets, and a seal over the attributes (see `facts`). Format 1 (version 0.1) has the data sets at the
root, in chunks; it is still read.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...data_manifests.errors import VadpipeError
from ...data_manifests.memory import check_memory
from ...data_manifests.stored import check_file, parse_json
from ...extractors.base import ArraySpec, Rows
from ...extractors.clips import Span
from .errors import StoreError
from .facts import SEAL, ShardFacts, check_attributes, check_place, facts_of, seal_of

FORMAT = 3
MOST_PACKED = 1100  # gzip packs at most 1032 bytes into one
ALIGNMENT = 64  # bytes: of data sets within the file, so that mapped values lie well
ASKED_ABOVE = 64 << 20  # bytes of a shard for which memory is asked
BLOCK_BYTES = 4 << 20  # that are read at once for a checksum
UNREADABLE = (OSError, StoreError)
"""What reading a broken shard raises (see `opened_shard`)."""

CURE = "run vadpipe cache verify --drop, then vadpipe extract (or import)"


def shard_name(span: Span) -> str:
    """The file name of the shard of a span."""
    return f"{span.frame_start:09d}-{span.frame_stop:09d}.h5"


def frames_of(name: str) -> tuple[int, int] | None:
    """(frame_start, frame_stop) in the name of a shard; None if it is no such name."""
    match = re.fullmatch(r"(\d{9,})-(\d{9,})\.h5", name)
    return None if match is None else (int(match[1]), int(match[2]))


@dataclass(frozen=True)
class ShardRow:
    """One shard, as the index lists it.

    Attributes:
        content_id: the video.
        frame_start: first frame, as planned.
        frame_stop: one past the last, as planned by the probe (the shard's own attributes say
            what the decoder really gave).
        rows: of its first axis.
        size: bytes on disk.
        checksum: sha256 over the arrays.
        last: the video ends in it; None in index parts of older versions.
        damaged: frames that the decoder marked as damaged; None in index parts of older versions.
        axis_rows: number of rows of each axis as JSON, where there are several axes; None where
            there is one, and in index parts of older versions.
        n_frames: of the video, by the decoder; -1 where it does not end here; None in index parts
            of older versions.
        whole_id: an id that covers every byte of the video; "" or None where it is not known.
    """

    content_id: str
    frame_start: int
    frame_stop: int
    rows: int
    size: int
    checksum: str
    last: bool | None = None
    damaged: int | None = None
    axis_rows: str | None = None
    n_frames: int | None = None
    whole_id: str | None = None

    def rows_of(self, axis: str, axes: Sequence[str]) -> int | None:
        """Number of rows of an axis; None if only the shard itself says it."""
        if self.axis_rows is not None:
            counts = parse_json(self.axis_rows, f"the index of {self.content_id}")
            count = counts.get(axis) if isinstance(counts, dict) else None
            return count if isinstance(count, int) and count >= 0 else None
        return self.rows if len(axes) == 1 else None


INDEX_SCHEMA = pa.schema(
    [
        ("content_id", pa.string()),
        ("frame_start", pa.int64()),
        ("frame_stop", pa.int64()),
        ("rows", pa.int64()),
        ("size", pa.int64()),
        ("checksum", pa.string()),
        ("last", pa.bool_()),
        ("damaged", pa.int64()),
        ("axis_rows", pa.string()),
        ("n_frames", pa.int64()),
        ("whole_id", pa.string()),
    ]
)


def axis_rows(counts: Mapping[str, int]) -> str | None:
    """What the index keeps of the number of rows of each axis; see `ShardRow`."""
    return json.dumps(counts) if len(counts) > 1 else None


@dataclass(frozen=True)
class VideoFacts:
    """What a span's shard says of its video besides the arrays."""

    fps: float
    n_frames: int | None
    """Frames by the decoder, known to the last span only."""
    flags: tuple[str, ...] = ()
    damaged: int = 0
    """Frames of this span that the decoder marked as damaged."""
    damaged_frames: tuple[int, ...] = ()
    """Their numbers, sorted, for extractors that read the shard instead of footage."""
    whole_id: str = ""
    """An id that covers every byte of the video, see `ProbeRow`."""


def ranges_of(numbers: Sequence[int]) -> str:
    """Sorted numbers as text, "3 7-9": an attribute of any length, which HDF5 arrays are not."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def numbers_of(ranges: str) -> frozenset[int]:
    """The numbers that `ranges_of` wrote."""
    found: set[int] = set()
    for run in ranges.split():
        first, _, last = run.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


@contextmanager
def opened_shard(path: Path) -> Iterator[h5py.File]:
    """A shard, open for reading: the one way in, so that every fault of its content is one error.

    Raises:
        StoreError: the file is damaged, or the code inside refuses it; the message names the file
            and the command that makes it again.
        OSError: the system does not let it be read.
    """
    try:
        check_file(path)  # a pipe would be waited for
        with h5py.File(path, "r") as file:
            yield file
    except MemoryError:
        raise  # it says nothing of the file
    except VadpipeError as error:
        raise StoreError(_with_cure(path, str(error))) from error
    except OSError as error:
        if error.errno is not None:  # of the system, not of the content: it may pass
            raise
        raise StoreError(_with_cure(path, f"it is damaged ({error})")) from error
    except (LookupError, ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise StoreError(_with_cure(path, f"it is damaged ({error})")) from error


def _with_cure(path: Path, reason: str) -> str:
    named = reason if str(path) in reason else f"{path}: {reason}"
    return named if "vadpipe cache verify" in named else f"{named}; {CURE}"


def reason_of(path: Path, error: BaseException) -> str:
    """What is wrong with a shard, without its name and what to do: for lists that say both."""
    return str(error).removeprefix(f"{path}: ").removesuffix(f"; {CURE}")


def checked_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A plain data set of this very file, at the root or in a group.

    Raises:
        StoreError: it is absent, a link elsewhere, external or virtual.
    """
    at: Any = file
    for part in name.split("/"):
        if not isinstance(at, h5py.Group) or not isinstance(
            at.get(part, getlink=True), h5py.HardLink
        ):
            raise StoreError(f"{file.filename}: no data set {name!r}")
        at = at[part]
    if not isinstance(at, h5py.Dataset) or at.external or at.is_virtual:
        raise StoreError(f"{file.filename}: {name!r} is not a plain data set; refused")
    most = at.id.get_storage_size() * (MOST_PACKED if at.compression else 1)
    if at.dtype.kind not in "biuf" or at.nbytes > most:
        raise StoreError(f"{file.filename}: {name!r} claims more than there is; refused")
    return at


def row_dataset(file: h5py.File, form: int, axis: str, name: str) -> h5py.Dataset:
    """An array of an axis, with one row for each that the axis has.

    Args:
        file:
            The shard.
        form:
            Its format.
        axis:
            Of the array.
        name:
            Of the array.

    Raises:
        StoreError: it is no plain data set, or has another number of rows.
    """
    dataset = checked_dataset(file, place_of(form, axis, name))
    rows = checked_dataset(file, place_of(form, axis, "frame_start")).shape
    if dataset.shape[:1] != rows:
        raise StoreError(f"{file.filename}: {name!r} is {dataset.shape} for {rows} rows")
    return dataset


def frame_numbers(file: h5py.File, name: str) -> NDArray[np.int64]:
    """(n,) frames of rows, as a data set of a shard has them.

    Raises:
        StoreError: it is no vector of whole numbers.
    """
    dataset = checked_dataset(file, name)
    if dataset.ndim != 1 or dataset.dtype.kind != "i":
        raise StoreError(f"{file.filename}: {name!r} is no vector of frame numbers")
    return np.asarray(dataset[:], np.int64)


def facts_at(file: h5py.File, path: Path) -> ShardFacts:
    """What an open shard says of itself; it has to be the shard that its path names.

    Raises:
        StoreError: it is not, or its attributes are broken.
    """
    facts = facts_of(file)
    check_place(facts, path, frames_of(path.name))
    return facts


def place_of(form: int, axis: str, name: str) -> str:
    """Where a data set of an axis lies in a shard of this format."""
    return name if form == 1 else f"{axis}/{name}"


@dataclass(frozen=True)
class RowFrames:
    """The frames of the rows of one axis of a shard.

    Attributes:
        clip_start: (n,) int64, the first frame of the clip that each row is from.
        frame_start: (n,) int64.
        frame_stop: (n,) int64.
    """

    clip_start: NDArray[np.int64]
    frame_start: NDArray[np.int64]
    frame_stop: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frame_start)


def row_frames(file: h5py.File, facts: ShardFacts, axis: str) -> RowFrames:
    """The frames of the rows of an axis.

    Raises:
        StoreError: the shard has no such axis, or the frames are none that its span can have: of
            several lengths, out of order, or outside of it.
    """
    first, stop = (
        frame_numbers(file, place_of(facts.format, axis, name))
        for name in ("frame_start", "frame_stop")
    )
    ragged = place_of(facts.format, axis, "clip_start")
    clips = frame_numbers(file, ragged) if ragged in file else first
    if not len(clips) == len(first) == len(stop):
        lengths = f"{len(clips)}, {len(first)} and {len(stop)}"
        raise StoreError(f"{file.filename}: frames of its rows are {lengths} numbers")
    ordered = all((np.diff(values) >= 0).all() for values in (clips, first, stop))
    if not ordered or (first > stop).any() or (first < 0).any():
        raise StoreError(f"{file.filename}: the frames of its rows are out of order")
    end = facts.frame_stop
    if facts.last:  # it goes on to where the decoder ended
        end = max(end, facts.n_frames)
    if len(clips) and not facts.frame_start <= clips[0] <= clips[-1] < end:
        raise StoreError(f"{file.filename}: its rows are of frames outside of it")
    return RowFrames(clips, first, stop)


def check_rows(rows: Mapping[str, Rows], specs: Sequence[ArraySpec]) -> None:
    """Compare rows with what the specs promise.

    Raises:
        StoreError: an axis or array is missing, unexpected, or of another shape or type.
    """
    wanted = {(spec.axis, spec.name): spec for spec in specs}
    found = {(axis, name): v for axis, own in rows.items() for name, v in own.arrays.items()}
    if set(found) != set(wanted):
        names = [sorted("/".join(key) for key in keys) for keys in (found, wanted)]
        raise StoreError(f"arrays {names[0]} are not the promised {names[1]}")
    for (axis, name), values in found.items():
        spec, n = wanted[axis, name], len(rows[axis])
        if values.shape != (n, *spec.shape) or values.dtype != np.dtype(spec.dtype):
            raise StoreError(
                f"array {name!r} is {values.dtype} {values.shape}, "
                f"promised {spec.dtype} {(n, *spec.shape)}"
            )


def datasets_of(rows: Mapping[str, Rows]) -> dict[str, NDArray[Any]]:
    """The data sets of a shard, "axis/name" -> values."""
    found: dict[str, NDArray[Any]] = {}
    for axis, own in rows.items():
        times = {"frame_start": own.frame_start, "frame_stop": own.frame_stop}
        if own.clip_start is not None:
            times["clip_start"] = own.clip_start
        for name, values in {**times, **own.arrays}.items():
            found[f"{axis}/{name}"] = np.ascontiguousarray(values)
    return found


def file_image(
    datasets: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any], specs: Sequence[ArraySpec]
) -> bytes:
    """An HDF5 file made in memory: a full disk then meets a plain write, and not the library,
    which would leave a file open that it cannot close.

    Raises:
        OutOfMemory: there is less memory than it takes.
    """
    size = sum(values.nbytes for values in datasets.values()) + (1 << 16)
    # The library keeps the file in memory, and returns a copy.
    if size > ASKED_ABOVE:
        check_memory(2 * size, "a shard", "free memory, or make spans or files shorter")
    with h5py.File(
        uuid.uuid4().hex,
        "w",
        driver="core",
        backing_store=False,
        block_size=size,
        alignment_threshold=ALIGNMENT,
        alignment_interval=ALIGNMENT,
    ) as f:
        attrs = {"format": FORMAT, **attrs}
        f.attrs.update({**attrs, SEAL: seal_of(attrs)})
        for name, values in datasets.items():
            f.create_dataset(name, data=values)
        for spec in specs:
            _describe(f[f"{spec.axis}/{spec.name}"], spec)
        f.flush()
        image: bytes = f.id.get_file_image()
    return image


def _describe(dataset: h5py.Dataset, spec: ArraySpec) -> None:
    dataset.attrs["dims"] = list(spec.dims)
    if spec.role is not None:
        dataset.attrs["role"] = spec.role
    if spec.grid is not None:
        dataset.attrs["grid"] = spec.grid
    for name, value in spec.attrs:
        dataset.attrs[name] = value


def checksum_of(datasets: Mapping[str, NDArray[Any] | h5py.Dataset]) -> str:
    """sha256 over names, dtypes, shapes and values of the data sets, in memory or in a file.

    The names of a shard with one axis count without it, so that the same rows have the same
    checksum in both formats: keys of models that were trained on imported features hold it.
    """
    axes = {name.partition("/")[0] for name in datasets}
    plain = {
        name.partition("/")[2] if len(axes) == 1 and "/" in name else name: values
        for name, values in datasets.items()
    }
    digest = hashlib.sha256()
    for name, values in sorted(plain.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape};".encode())
        for block in _blocks_of(values):
            digest.update(block.data)
    return digest.hexdigest()


def _blocks_of(values: NDArray[Any] | h5py.Dataset) -> Iterator[NDArray[Any]]:
    """The rows of a data set in order. Those of a file are read into the same memory again and
    again: the first use of memory takes longer than reading and hashing."""
    if isinstance(values, np.ndarray):
        yield np.ascontiguousarray(values)
        return
    count = _rows_a_block(values)
    memory = np.empty((min(count, len(values)), *values.shape[1:]), values.dtype)
    for first in range(0, len(values), count):
        part = memory[: min(count, len(values) - first)]
        if part.size:
            values.read_direct(part, np.s_[first : first + len(part)])
        yield part


def _rows_a_block(dataset: h5py.Dataset) -> int:
    rows, size = len(dataset), int(dataset.nbytes)
    return max(1, BLOCK_BYTES // max(1, size // max(1, rows)))


def verify_shard(path: Path) -> ShardFacts:
    """What a shard says of itself, if its attributes match the seal and its arrays the checksum.

    Raises:
        StoreError: they do not match, or the file holds something else.
        OSError: the system does not let it be read.
    """
    with opened_shard(path) as file:
        facts = check_attributes(file)
        names = list(file)
        if facts.format != 1:
            names = [f"{axis}/{name}" for axis in file for name in _group(file, axis)]
        datasets = {}
        for name in names:
            plain = checked_dataset(file, name)
            rows = min(len(plain), _rows_a_block(plain))
            block = plain.nbytes // max(1, len(plain)) * rows
            check_memory(block, f"{path}: {name!r}", "verify it on a machine with more memory")
            datasets[name] = plain
        if checksum_of(datasets) != facts.checksum:
            raise StoreError("arrays do not match the checksum")
        for axis in facts.axes:
            row_frames(file, facts, axis)
            for name in file[axis] if axis else file:
                row_dataset(file, facts.format, axis, name)
    return facts


def _group(file: h5py.File, axis: str) -> h5py.Group:
    group = file[axis] if isinstance(file.get(axis, getlink=True), h5py.HardLink) else None
    if not isinstance(group, h5py.Group):
        raise StoreError(f"{file.filename}: {axis!r} is not a plain group; refused")
    return group


def row_of(path: Path) -> ShardRow:
    """The index row of a shard on disk.

    Raises:
        StoreError, OSError: it is not a whole shard (`UNREADABLE`), or belongs elsewhere.
    """
    with opened_shard(path) as file:
        facts = facts_at(file, path)
        counts = {axis: len(row_frames(file, facts, axis)) for axis in facts.axes}
        return ShardRow(
            facts.content_id,
            facts.frame_start,
            facts.frame_stop,
            counts[facts.axes[0]],
            path.stat().st_size,
            facts.checksum,
            facts.last,
            facts.damaged,
            axis_rows(counts),
            facts.n_frames,
            facts.whole_id,
        )
