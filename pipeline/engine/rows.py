"""What an extractor promises and returns: checked, cast for storage, gathered for a span."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extractors.base import ArraySpec, Extractor, Rows, cast_checked
from ...extractors.clips import Clip
from ...extractors.errors import ExtractorError

_NUMBERS = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def check_promises(extractor: Extractor[Any]) -> None:
    """Refuse arrays that cannot be stored, or whose descriptions contradict each other.

    Raises:
        ExtractorError: the extractor has a fault; the message names the array.
    """
    specs = extractor.arrays
    faults = [f"{spec.name!r} {fault}" for spec in specs for fault in _faults_of(spec)]
    if not specs:
        faults.append("there are none")
    for what, given in (
        ("name", [spec.name for spec in specs]),
        ("role", [spec.role for spec in specs if spec.role is not None]),
    ):
        faults += [
            f"two have the {what} {each!r}" for each in sorted(set(given)) if given.count(each) > 1
        ]
    for axis in dict.fromkeys(spec.axis for spec in specs):
        if len({spec.ragged for spec in specs if spec.axis == axis}) > 1:
            faults.append(f"some of axis {axis!r} are ragged and some are not")
    kept = extractor.pixel_array
    if kept is not None and not any(s.name == kept and _is_pictures(s) for s in specs):
        faults.append(f"pixel_array {kept!r} is none of (height, width, 3) uint8")
    if faults:
        raise ExtractorError(f"arrays of {extractor.name}: {'; '.join(faults)}")


def _faults_of(spec: ArraySpec) -> list[str]:
    """What is wrong with the description of one array, in words."""
    faults = []
    if not _NAME.fullmatch(spec.name):
        faults.append("is no name of a data set: take letters, digits, '.', '_' and '-'")
    if not _NUMBERS.fullmatch(spec.dtype):
        faults.append(f"has numbers of the type {spec.dtype!r}, which cannot be stored")
    if len(spec.dims) != len(spec.shape) + 1:
        faults.append(f"has the axes {spec.dims}, but sizes {spec.shape} after the first one")
    if not all(size > 0 for size in spec.shape):
        faults.append(f"has an axis without values: {spec.shape}")
    if spec.grid is not None and spec.shape[:1] != (spec.grid[0] * spec.grid[1],):
        faults.append(f"is no grid of {spec.grid[0]} x {spec.grid[1]}: its sizes are {spec.shape}")
    return faults


def _is_pictures(spec: ArraySpec) -> bool:
    return spec.dtype == "uint8" and len(spec.shape) == 3 and spec.shape[2] == 3


def checked_rows(
    extractor: Extractor[Any], clips: Sequence[Clip], found: Mapping[str, Rows]
) -> dict[str, Rows]:
    """Rows of a batch as the specs of an extractor promise them, in storage precision.

    Raises:
        ExtractorError: this is no mapping of rows, an axis or array is missing or unexpected,
            shapes or lengths differ, values do not fit their type, a clip of an axis that is not
            ragged has no row or several, or rows are not in the order of their clips.
    """
    if not isinstance(found, Mapping) or not all(isinstance(r, Rows) for r in found.values()):
        raise ExtractorError(
            f"{extractor.name}: extract has to return a mapping of axis -> Rows; it returned "
            f"{_kind_of(found)}"
        )
    specs: dict[str, list[ArraySpec]] = {}
    for spec in extractor.arrays:
        specs.setdefault(spec.axis, []).append(spec)
    if set(found) != set(specs):
        raise ExtractorError(
            f"{extractor.name} returned rows of {sorted(found)}, it promises {sorted(specs)}"
        )
    return {
        axis: _checked_axis(f"{extractor.name}: axis {axis!r}", own, clips, found[axis])
        for axis, own in specs.items()
    }


def _kind_of(found: Any) -> str:
    if not isinstance(found, Mapping):
        return type(found).__name__
    return ", ".join(f"{axis!r} -> {type(rows).__name__}" for axis, rows in found.items())


def _checked_axis(what: str, specs: Sequence[ArraySpec], clips: Sequence[Clip], rows: Rows) -> Rows:
    promised = sorted(spec.name for spec in specs)
    if sorted(rows.arrays) != promised:
        raise ExtractorError(f"{what} has arrays {sorted(rows.arrays)}, promised are {promised}")
    n = len(rows)
    for spec in specs:
        _check_array(what, spec, rows.arrays[spec.name])
    lengths = {"frame_stop": len(rows.frame_stop), **{k: len(v) for k, v in rows.arrays.items()}}
    if rows.clip_start is not None:
        lengths["clip_start"] = len(rows.clip_start)
    wrong = {name: length for name, length in lengths.items() if length != n}
    if wrong:
        raise ExtractorError(f"{what} has {n} rows, but {wrong}")
    starts = [clip.frame_start for clip in clips]
    if not any(spec.ragged for spec in specs):
        if n != len(clips):
            raise ExtractorError(f"{what} has {n} rows for {len(clips)} clips; it is not ragged")
    elif rows.clip_start is None or not np.isin(rows.clip_start, starts).all():
        raise ExtractorError(f"{what}: clip_start must name a clip of the batch for every row")
    for name in ("frame_start", "frame_stop", "clip_start"):
        values = getattr(rows, name)
        if values is None:
            continue
        if np.ndim(values) != 1 or (n and np.asarray(values).dtype.kind not in "iu"):
            raise ExtractorError(f"{what}: {name} has to be (n,) whole numbers")
        if (np.diff(values) < 0).any():
            raise ExtractorError(f"{what}: {name} goes back: rows must be in order of time")
    if n and (rows.frame_start[0] < 0 or (rows.frame_stop <= rows.frame_start).any()):
        raise ExtractorError(f"{what}: a row has to begin at 0 or later, and to end after that")
    return replace(
        rows,
        frame_start=np.asarray(rows.frame_start, np.int64),
        frame_stop=np.asarray(rows.frame_stop, np.int64),
        arrays={s.name: cast_checked(rows.arrays[s.name], s.dtype, s.name) for s in specs},
        clip_start=None if rows.clip_start is None else np.asarray(rows.clip_start, np.int64),
    )


def _check_array(what: str, spec: ArraySpec, values: Any) -> None:
    """Check that values are numbers of the promised shape, and whole ones where these are stored.

    Raises:
        ExtractorError: they are not.
    """
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        kind = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise ExtractorError(f"{what}: {spec.name!r} has to be an array of numbers, not {kind}")
    if values.shape[1:] != spec.shape:
        raise ExtractorError(
            f"{what}: rows of {spec.name!r} are {values.shape[1:]}, promised are {spec.shape}"
        )
    whole = np.dtype(spec.dtype)
    if whole.kind in "iu" and values.dtype != whole and values.size:
        low, high = np.iinfo(whole).min, np.iinfo(whole).max
        if not (values.min() >= low and values.max() <= high and (values % 1 == 0).all()):
            raise ExtractorError(f"{what}: {spec.name!r} has values that {whole} cannot hold")


class GatheredRows:
    """The rows of one axis, batch after batch, in arrays that grow where they are.

    Arrays of all batches that are joined at the end take their memory twice, and the first use of
    memory takes longer than a copy into it.

    Args:
        specs:
            Of the arrays of the axis.
    """

    def __init__(self, specs: Sequence[ArraySpec]) -> None:
        self._arrays = {spec.name: _GrowingArray(spec.dtype, spec.shape) for spec in specs}
        self._start, self._stop = _GrowingArray("int64", ()), _GrowingArray("int64", ())
        ragged = any(spec.ragged for spec in specs)
        self._clip_start = _GrowingArray("int64", ()) if ragged else None

    def add(self, rows: Rows) -> None:
        """Add the rows of the next batch, as `checked_rows` returns them."""
        self._start.add(rows.frame_start)
        self._stop.add(rows.frame_stop)
        if self._clip_start is not None and rows.clip_start is not None:
            self._clip_start.add(rows.clip_start)
        for name, array in self._arrays.items():
            array.add(rows.arrays[name])

    def rows(self) -> Rows:
        """All rows; none where there was no batch. Nothing can be added afterwards."""
        return Rows(
            self._start.whole(),
            self._stop.whole(),
            {name: array.whole() for name, array in self._arrays.items()},
            None if self._clip_start is None else self._clip_start.whole(),
        )


class _GrowingArray:
    """An array that rows are added to; `ndarray.resize` moves large ones without a copy."""

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self._array = np.empty((0, *shape), dtype)
        self._length = 0

    def add(self, values: NDArray[Any]) -> None:
        stop = self._length + len(values)
        if stop > len(self._array):
            # A quarter more than there was: otherwise small ones are copied at every batch.
            self._resize(max(stop, 5 * len(self._array) // 4))
        self._array[self._length : stop] = values
        self._length = stop

    def whole(self) -> NDArray[Any]:
        self._resize(self._length)
        return self._array

    def _resize(self, length: int) -> None:
        self._array.resize((length, *self._array.shape[1:]), refcheck=False)  # nobody else has it
