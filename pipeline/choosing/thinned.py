"""Bags of objects with fewer boxes and rows: one extraction serves several thresholds and strides.

A box is kept or dropped by its own score, and an overlap is decided in favour of the better box. So
the boxes above a threshold are those that an extraction with this threshold returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...detectors.base import ArrayLike, Bag, DetectorError, Track, VideoRows

OBJECT, FRAME, COUNTS, SCORES = "object/", "frame/", "frame/objects", "object/scores"


def thinned(bag: Bag, least: float, every: int) -> Bag:
    """The bag that `objects` with a score of `least` and a stride of `every` would have made.

    Args:
        bag:
            With every frame and a lower threshold.
        least:
            Smallest score of a box.
        every:
            Frames from one row to the next.

    Returns:
        Its tracks; one is read when rows of it are asked for first, and then stays in memory. What
        is neither of frames nor of objects is left out.

    Raises:
        DetectorError: the bag has no objects.
    """
    if SCORES not in bag.tracks or COUNTS not in bag.tracks:
        raise DetectorError(
            f"video {bag.video_id!r} has no objects: extract them first, vadpipe extract -e objects"
        )
    scores, frames = bag.tracks[SCORES], bag.tracks[COUNTS]
    if len(frames) > 1 and every % (stride := int(np.diff(frames.frame_start).min())):
        raise DetectorError(
            f"video {bag.video_id!r} has rows {stride} frames apart, which a stride of {every} "
            "does not fit: extract objects with --set stride=1"
        )
    boxes = (scores.rows() >= least) & (scores.frame_start % every == 0)
    rows = frames.frame_start % every == 0
    tracks = {
        name: _kept(track, boxes if name.startswith(OBJECT) else rows)
        for name, track in bag.tracks.items()
        if name.startswith((OBJECT, FRAME))
    }
    at = np.searchsorted(frames.frame_start[rows], scores.frame_start[boxes])
    counts = np.bincount(at, minlength=int(rows.sum())).astype(np.int32)
    tracks[COUNTS] = replace(tracks[COUNTS], array=counts)
    return replace(bag, tracks=tracks)


def _kept(track: Track, chosen: NDArray[np.bool_]) -> Track:
    start, stop = track.frame_start[chosen], track.frame_stop[chosen]
    return Track(_Chosen(track.array, chosen), start, stop, track.grid)


class _Chosen:
    """Some rows of an array (see `detectors.base.ArrayLike`).

    Crops of objects are most of a feature set, and few detectors look at them: nothing is read
    before it is asked for.
    """

    def __init__(self, array: ArrayLike, chosen: NDArray[np.bool_]) -> None:
        self._array, self._chosen = array, chosen

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self._chosen.sum()), *self._array.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        return self._held[rows]

    @cached_property
    def _held(self) -> NDArray[Any]:
        return np.asarray(self._array[slice(0, len(self._chosen))])[self._chosen]


@dataclass(frozen=True)
class HeldBags:
    """Bags in memory (see `detectors.base.BagSource`)."""

    bags: tuple[Bag, ...]

    def __len__(self) -> int:
        return len(self.bags)

    def __getitem__(self, i: int) -> Bag:
        """The i-th bag."""
        return self.bags[i]

    def __iter__(self) -> Iterator[Bag]:
        return iter(self.bags)

    def subset(self, indices: Sequence[int]) -> HeldBags:
        """The bags of these indices only."""
        return HeldBags(tuple(self.bags[i] for i in indices))

    def video_rows(self, role: str) -> VideoRows:
        """The rows of exactly this role in all videos.

        Raises:
            DetectorError: a video has no such features.
        """
        if lacking := [bag.video_id for bag in self.bags if role not in bag.tracks]:
            raise DetectorError(f"{', '.join(lacking[:10])}: no {role!r} features")
        return _HeldRows(role, self.bags)


@dataclass(frozen=True)
class _HeldRows:
    """See `detectors.base.VideoRows`."""

    role: str
    bags: tuple[Bag, ...]

    @property
    def video_ids(self) -> list[str]:
        return [bag.video_id for bag in self.bags]

    @property
    def scenes(self) -> list[str | None]:
        return [bag.scene for bag in self.bags]

    @property
    def labels(self) -> list[int | None]:
        return [bag.label for bag in self.bags]

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.array([len(bag.tracks[self.role]) for bag in self.bags], np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bags[0].tracks[self.role].array.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.bags[0].tracks[self.role].array.dtype

    def read_into(self, out: NDArray[Any], video: int, start: int) -> None:
        out[...] = self.bags[video].tracks[self.role].rows(start, start + len(out))
