"""FeatureStore: HDF5 shards named by content, written whole or not at all, and their index.

A shard is done when its final name exists. Nothing is ever appended to; two processes may write
the same span twice and can never leave half a shard or two of them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...data_manifests.atomic import remove_anything, remove_stale, write_atomically, write_text
from ...data_manifests.errors import VadpipeError
from ...data_manifests.stored import DamagedFile, parse_json, read_json
from ...extractors.base import ArraySpec, Rows
from ...extractors.clips import Span
from .care import problems_of
from .errors import StoreError
from .index import ShardIndex
from .keys import canonical_json, differing_fields, folder_name, key_of
from .names import checked_content, checked_name
from .recipes import checked_recipe
from .shard import (
    UNREADABLE,
    ShardRow,
    VideoFacts,
    axis_rows,
    check_rows,
    checksum_of,
    datasets_of,
    facts_at,
    file_image,
    frames_of,
    opened_shard,
    ranges_of,
    row_frames,
    row_of,
    shard_name,
    verify_shard,
)
from .sharded_array import Part, ShardedArray, forget_maps

_PART_ROWS = 1 << 16


@dataclass(frozen=True)
class RowTimes:
    """The frames of the rows of one axis.

    Attributes:
        frame_start: (n,) int64.
        frame_stop: (n,) int64.
    """

    frame_start: NDArray[np.int64]
    frame_stop: NDArray[np.int64]

    def inside(self, part: tuple[int, int]) -> tuple[int, int]:
        """Rows [first, stop) whose frames lie wholly in the frames [part): they see no others."""
        first = int(np.searchsorted(self.frame_start, part[0]))
        stop = int(np.searchsorted(self.frame_stop, part[1], side="right"))
        return first, max(first, stop)


@dataclass(frozen=True)
class VideoFeatures:
    """All arrays of one video in one feature set.

    Attributes:
        arrays: name -> (n, ...) array, sliced from disk.
        times: axis -> the frames of its rows, in the order of the recipe.
        n_frames: of the video, by the decoder.
        fps: frames per second.
        flags: what decoding noticed.
        damaged: frames that the decoder marked as damaged.
    """

    arrays: Mapping[str, ShardedArray]
    times: Mapping[str, RowTimes]
    n_frames: int
    fps: float
    flags: tuple[str, ...]
    damaged: int = 0

    @property
    def frame_start(self) -> NDArray[np.int64]:
        """(n,) of the first axis."""
        return next(iter(self.times.values())).frame_start

    @property
    def frame_stop(self) -> NDArray[np.int64]:
        """(n,) of the first axis."""
        return next(iter(self.times.values())).frame_stop


class FeatureStore:
    """One feature set on disk: `features/<extractor>-<key12>` of a cache.

    Args:
        cache:
            Root of the cache.
        recipe:
            Everything that decides the numbers; its canonical JSON is kept as spec.json.

    Attributes:
        recipe: as given.
        key: its sha256.
        root: the folder.
        shard_index: what the shards say of themselves, without opening them.

    Raises:
        StoreError: the recipe names no extractor, or has a number that is not finite.
    """

    def __init__(self, cache: Path, recipe: Mapping[str, Any]) -> None:
        try:
            self.recipe: dict[str, Any] = parse_json(canonical_json(recipe), "the recipe")
        except (ValueError, TypeError) as error:
            raise StoreError(f"the recipe of a feature set cannot be a key: {error}") from error
        name = checked_name(self.recipe.get("extractor"), "an extractor")
        self.key = key_of(self.recipe)
        self.root = cache / "features" / folder_name(name, self.recipe)
        self.shard_index = ShardIndex(self.root / "index")

    @classmethod
    def open(cls, folder: Path) -> FeatureStore:
        """The store in an existing folder.

        Raises:
            StoreError: spec.json is missing, damaged, or does not hash to the folder's name.
        """
        path = folder / "spec.json"
        if not path.is_file():
            raise StoreError(f"{folder} is not a feature set: it has no spec.json")
        try:
            recipe = checked_recipe(read_json(path), path)
        except (DamagedFile, OSError) as error:
            raise StoreError(str(error)) from error
        store = cls(folder.parent.parent, recipe)
        if store.root.name != folder.name:
            raise StoreError(
                f"{path} was changed: it hashes to {store.root.name}, not to {folder.name}"
            )
        return store

    @property
    def name(self) -> str:
        """`<extractor>-<key12>`."""
        return self.root.name

    def array_specs(self) -> list[dict[str, Any]]:
        """The arrays as the recipe describes them (see `ArraySpec.to_json`)."""
        specs: list[dict[str, Any]] = self.recipe["arrays"]
        return specs

    def create(self) -> None:
        """Make the folder with its spec.json; safe to call from many processes.

        A spec.json that is damaged, or does not hash to the name of its folder, is written again.

        Raises:
            StoreError: another recipe of this name is there (a key collision).
        """
        path = self.root / "spec.json"
        try:
            other = FeatureStore.open(self.root).recipe
        except VadpipeError:
            text = json.dumps(self.recipe, indent=1, sort_keys=True, ensure_ascii=False)
            if path.is_dir():
                remove_anything(path)  # no file can be moved to its name
            write_text(path, text)
            return
        if other != self.recipe:
            lines = "; ".join(differing_fields(self.recipe, other))
            raise StoreError(f"{path} holds another recipe: {lines}")

    def is_there(self) -> bool:
        """Whether the folder has its spec.json; without it, nothing lists the set."""
        return (self.root / "spec.json").is_file()

    # -- names ---------------------------------------------------------------------------------

    def video_folder(self, content_id: str) -> Path:
        """Where the shards of a video lie.

        Raises:
            StoreError: the id is none, and might lead elsewhere.
        """
        name = checked_content(content_id)
        return self.root / "shards" / name.partition("-")[2][:2] / name

    def shard_path(self, span: Span) -> Path:
        """The final name of a span's shard."""
        return self.video_folder(span.content_id) / shard_name(span)

    def shards(self, content_id: str) -> list[tuple[int, int, Path]]:
        """(frame_start, frame_stop, path) of what is on disk, sorted."""
        folder = self.video_folder(content_id)
        try:
            with os.scandir(folder) as entries:
                found = [(frames_of(e.name), e.name) for e in entries]
        except FileNotFoundError:
            return []
        return sorted((*frames, folder / name) for frames, name in found if frames is not None)

    # -- writing -------------------------------------------------------------------------------

    def write(
        self,
        span: Span,
        rows: Mapping[str, Rows],
        specs: Sequence[ArraySpec],
        facts: VideoFacts,
        provenance: Mapping[str, str],
    ) -> ShardRow:
        """Write the shard of a span: temp file, fsync, read back and check, move.

        Args:
            span:
                The span, as planned.
            rows:
                Axis -> its rows; exactly the axes and arrays of `specs`.
            specs:
                What the arrays have to look like.
            facts:
                The video's rate, decoded length and flags.
            provenance:
                Versions and device kind; no times, no host names.

        Raises:
            StoreError: an array is not what its spec promises, or reading back failed.
        """
        check_rows(rows, specs)
        path = self.shard_path(span)
        axes = list(dict.fromkeys(spec.axis for spec in specs))
        datasets = datasets_of({axis: rows[axis] for axis in axes})
        checksum = checksum_of(datasets)
        attrs = {
            "axes": " ".join(axes),
            "content_id": span.content_id,
            "frame_start": span.frame_start,
            "frame_stop": span.frame_stop,
            "last": span.last,
            "n_frames": -1 if facts.n_frames is None else facts.n_frames,
            "fps": facts.fps,
            "flags": " ".join(facts.flags),
            "damaged": facts.damaged,
            "key": self.key,
            "checksum": checksum,
            **({"damaged_frames": ranges} if (ranges := ranges_of(facts.damaged_frames)) else {}),
            **({"whole_id": facts.whole_id} if facts.whole_id else {}),
            **provenance,
        }
        image = file_image(datasets, attrs, specs)

        def write(temporary: Path) -> None:
            temporary.write_bytes(image)
            verify_shard(temporary)

        write_atomically(path, write)
        return ShardRow(
            span.content_id,
            span.frame_start,
            span.frame_stop,
            len(rows[axes[0]]),
            path.stat().st_size,
            checksum,
            span.last,
            facts.damaged,
            axis_rows({axis: len(rows[axis]) for axis in axes}),
            -1 if facts.n_frames is None else facts.n_frames,
            facts.whole_id,
        )

    # -- reading -------------------------------------------------------------------------------

    def read(self, content_id: str) -> VideoFeatures:
        """Open all arrays of a video; values are read when they are sliced.

        Shards of different span sizes may overlap: every row is taken once.

        Raises:
            StoreError: the video is not there, or not whole; a shard belongs elsewhere, is broken,
                or does not hold what the recipe states.
        """
        axes = list(dict.fromkeys(spec["dims"][0] for spec in self.array_specs()))
        parts: dict[str, list[Part]] = {axis: [] for axis in axes}
        starts: dict[str, list[NDArray[np.int64]]] = {axis: [] for axis in axes}
        stops: dict[str, list[NDArray[np.int64]]] = {axis: [] for axis in axes}
        at, n_frames, fps, flags, damaged = 0, -1, 0.0, set[str](), 0
        wholes = set[str]()
        for start, stop, path in self.shards(content_id):
            if stop <= at:
                continue
            if start > at:
                break
            with opened_shard(path) as file:
                facts = facts_at(file, path)
                found = {axis: row_frames(file, facts, axis) for axis in axes}
            for axis, frames in found.items():
                # Rows of clips that begin before `at` are in the shard before this one.
                first = int(np.searchsorted(frames.clip_start, at))
                parts[axis].append(Part(path, first, len(frames)))
                starts[axis].append(frames.frame_start[first:])
                stops[axis].append(frames.frame_stop[first:])
            fps = facts.fps
            flags |= set(facts.flags)
            damaged += facts.damaged
            wholes |= {facts.whole_id} - {""}
            if facts.last:
                n_frames = facts.n_frames
            at = stop
        if n_frames < 0:
            raise StoreError(
                f"{self.name} has no whole features of {content_id} "
                f"(frames up to {at}); run vadpipe extract"
            )
        if len(wholes) > 1:
            raise StoreError(
                f"{self.name} has shards of {content_id} that were made of different files; run "
                "vadpipe cache verify --drop, then vadpipe extract"
            )
        return VideoFeatures(
            {
                spec["name"]: ShardedArray(
                    parts[spec["dims"][0]],
                    spec["dims"][0],
                    spec["name"],
                    (np.dtype(spec["dtype"]), tuple(spec["shape"])),
                )
                for spec in self.array_specs()
            },
            {
                axis: RowTimes(np.concatenate(starts[axis]), np.concatenate(stops[axis]))
                for axis in axes
            },
            n_frames,
            fps,
            tuple(sorted(flags)),
            damaged,
        )

    def scan(self) -> Iterator[Path]:
        """All finished shards on disk, sorted by name."""
        for path in sorted((self.root / "shards").glob("*/*/*.h5")):
            if frames_of(path.name) is not None:
                yield path

    # -- index ---------------------------------------------------------------------------------

    def add_index_part(self, rows: Sequence[ShardRow]) -> None:
        """List shards that a run has written."""
        self.shard_index.add(rows)

    def index(self, contents: Collection[str] | None = None) -> pa.Table:
        """What the shards say of themselves, see `ShardIndex.table`."""
        return self.shard_index.table(contents)

    def fold_index(self, most: int = 64) -> None:
        """Make one index part of many; other processes may read and add meanwhile."""
        self.shard_index.fold(most)

    def rebuild_index(self) -> int:
        """Write the index again from the shards; returns their number.

        A shard that cannot be read is left out: `verify` names it. Old temporary files are deleted.
        """
        for folder in {path.parent for path in self.root.rglob(".*.tmp")}:
            remove_stale(folder)
        old = self.shard_index.parts()
        rows, count = [], 0
        for path in self.scan():
            try:
                rows.append(row_of(path))
            except UNREADABLE:
                continue
            if len(rows) == _PART_ROWS:
                count += len(rows)
                self.add_index_part(rows)
                rows = []
        self.add_index_part(rows)
        for path in old:
            remove_anything(path)
        return count + len(rows)

    def unlist(self, contents: Collection[str]) -> None:
        """Take the shards of some videos out of the index; other processes may add meanwhile."""
        self.shard_index.remove(contents)

    # -- care ----------------------------------------------------------------------------------

    def verify(self) -> list[str]:
        """Read every shard; one line for each problem, see `problems_of`."""
        return [problem.text for problem in problems_of(self)]

    def remove_video(self, content_id: str) -> None:
        """Delete the shards of a video."""
        forget_maps(self.video_folder(content_id))
        shutil.rmtree(self.video_folder(content_id), ignore_errors=True)
