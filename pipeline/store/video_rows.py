"""The rows of one array in many videos, counted from the index and read from mapped shards.

What is kept in memory is a few numbers for each video and each shard, not for each row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data_manifests.atomic import CannotWrite
from ...data_manifests.record import VideoRecord
from ...detectors.base import DetectorError
from ...extractors.clips import Span
from .errors import StoreError
from .feature_store import FeatureStore
from .shard import (
    CURE,
    UNREADABLE,
    ShardRow,
    facts_at,
    opened_shard,
    reason_of,
    row_frames,
    row_of,
)
from .sharded_array import copy_rows

LISTED = 20  # videos named in one error


@dataclass(frozen=True)
class _Place:
    """The rows [first, stop) of a shard count."""

    frame_start: int
    frame_stop: int
    first: int
    stop: int


class StoreRows:
    """The rows of one array in the videos of some records (see `detectors.base.VideoRows`).

    The folders say which shards there are, and the index how many rows they have. A shard is
    opened only if the index does not say it (older caches; the index then gets the answer), if it
    overlaps the one before it, or if a record describes a part of its video.

    Args:
        store:
            The feature set.
        spec:
            The array, as in the recipe of the store.
        records:
            The videos.
        contents:
            The content id of each record.
        labels:
            False hides the labels.

    Raises:
        StoreError: features of some videos are not there or not whole; the message names them.
        DetectorError: the part of a video that a record describes has no row.
    """

    def __init__(
        self,
        store: FeatureStore,
        spec: Mapping[str, Any],
        records: Sequence[VideoRecord],
        contents: Sequence[str],
        *,
        labels: bool,
    ) -> None:
        self._store = store
        self._name = str(spec["name"])
        self._axis = str(spec["dims"][0])
        self.role = str(spec["role"])
        self.shape = tuple(int(n) for n in spec["shape"])
        self.dtype = np.dtype(str(spec["dtype"]))
        self.video_ids = [record.video_id for record in records]
        self.scenes = [record.scene for record in records]
        self.labels = [record.label if labels else None for record in records]
        self._contents = list(contents)
        videos = self._find_shards(records)
        # Row numbers over all shards: those of a record are one range.
        self._first = np.zeros(len(records), np.int64)
        self.counts = np.zeros(len(records), np.int64)
        for i, record in enumerate(records):
            row, rows = videos[contents[i]]
            first, stop = 0, rows
            if record.part != (0.0, 1.0):
                first, stop = self._inside(record, contents[i])
            if first == stop and not spec.get("ragged", False):
                raise DetectorError(
                    f"{record.video_id}: its part {record.part} has no row of {self.role!r}; "
                    "leave it out of the manifest"
                )
            self._first[i], self.counts[i] = row + first, stop - first

    def read_into(self, out: NDArray[Any], video: int, start: int) -> None:
        """Copy the rows [start, start + len(out)) of a video; several threads may call it.

        Raises:
            IndexError: the video has fewer rows.
            StoreError: a shard is damaged or was replaced by something else.
        """
        if start < 0 or start + len(out) > self.counts[video]:
            raise IndexError(f"rows {start} to {start + len(out)} of {self.counts[video]}")
        at, done = int(self._first[video]) + start, 0
        shard = int(np.searchsorted(self._ends, at, side="right"))
        while done < len(out):
            size = min(len(out) - done, int(self._ends[shard]) - at)
            if size:  # a shard may have no row
                before = int(self._ends[shard]) - int(self._rows[shard])
                copy_rows(
                    self._path(self._contents[video], shard),
                    self._axis,
                    self._name,
                    int(self._cut[shard]) + at - before,
                    out[done : done + size],
                )
            at, done, shard = at + size, done + size, shard + 1

    def _path(self, content: str, shard: int) -> Path:
        start, stop = int(self._spans[shard, 0]), int(self._spans[shard, 1])
        return self._store.shard_path(Span(content, start, stop, False))

    # -- counting ------------------------------------------------------------------------------

    def _find_shards(self, records: Sequence[VideoRecord]) -> dict[str, tuple[int, int]]:
        """Note all shards; return the first row of each content among all, and its rows."""
        counter = _Counter(self._store, self._axis, set(self._contents))
        places: list[_Place] = []
        videos: dict[str, tuple[int, int]] = {}
        missing: list[str] = []
        total = 0
        for record, content in zip(records, self._contents, strict=True):
            if content in videos:
                continue
            found = counter.places(content)
            if found is None:
                missing.append(record.video_id)
                continue
            rows = sum(place.stop - place.first for place in found)
            videos[content] = total, rows
            places += found
            total += rows
        counter.list_opened()
        if missing:
            more = f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
            raise StoreError(
                f"{self._store.name} has no whole features of {len(missing)} videos: "
                f"{', '.join(missing[:LISTED])}{more}; run vadpipe extract"
            )
        self._spans = np.array([(p.frame_start, p.frame_stop) for p in places], np.int64)
        self._cut = np.array([p.first for p in places], np.int64)
        self._rows = np.array([p.stop - p.first for p in places], np.int64)
        self._ends = np.cumsum(self._rows)
        return videos

    def _inside(self, record: VideoRecord, content: str) -> tuple[int, int]:
        """Rows [first, stop) whose frames lie wholly in the part that a record describes."""
        features = self._store.read(content)
        return features.times[self._axis].inside(record.frame_range(features.n_frames))


@dataclass
class _Counter:
    """Counts the rows of shards, from the index where it says so."""

    store: FeatureStore
    axis: str
    contents: set[str]
    opened: list[ShardRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._axes = list(dict.fromkeys(spec["dims"][0] for spec in self.store.array_specs()))
        self._listed: dict[tuple[str, int, int], ShardRow] = {
            (row["content_id"], row["frame_start"], row["frame_stop"]): ShardRow(**row)
            for batch in self.store.index(self.contents).to_batches()
            for row in batch.to_pylist()
        }

    def places(self, content: str) -> list[_Place] | None:
        """The shards of a video and which rows of them count; None if the video is not whole.

        Shards of different span sizes may overlap: the rows of clips that begin in an earlier
        shard are taken from there, as in `FeatureStore.read`.
        """
        found: list[_Place] = []
        at, ends = 0, False
        for start, stop, path in self.store.shards(content):
            if stop <= at:
                continue
            if start > at:
                break
            listed = self._listed.get((content, start, stop))
            try:
                if listed is None or listed.last is None or self._rows(listed) is None:
                    listed = row_of(path)
                    self.opened.append(listed)
                first, rows = 0, self._rows(listed)
                if start < at or rows is None:
                    with opened_shard(path) as file:
                        clips = row_frames(file, facts_at(file, path), self.axis).clip_start
                    first, rows = int(np.searchsorted(clips, at)), len(clips)
            except UNREADABLE as error:
                raise StoreError(
                    f"{path} cannot be read: {reason_of(path, error)}; {CURE}"
                ) from error
            found.append(_Place(start, stop, first, rows))
            at, ends = stop, bool(listed.last)
        return found if ends else None

    def _rows(self, listed: ShardRow) -> int | None:
        return listed.rows_of(self.axis, self._axes)

    def list_opened(self) -> None:
        """Put what was learned from opened shards into the index, for the next training."""
        with suppress(CannotWrite):  # a read-only cache is read all the same
            self.store.add_index_part(self.opened)
