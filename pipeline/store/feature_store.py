"""FeatureStore: HDF5 shards named by content, written whole or not at all, and their index.

A shard is done when its final name exists. Nothing is ever appended to; two processes may write
the same span twice and can never leave half a shard or two of them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...data_manifests.atomic import remove_stale, write_atomically, write_table, write_text
from ...data_manifests.choices import choices
from ...data_manifests.stored import parse_json, read_json
from ...extractors.base import ArraySpec, Rows
from ...extractors.clips import Span
from .care import problems_of
from .errors import StoreError
from .keys import canonical_json, differing_fields, folder_name, key_of
from .shard import (
    INDEX_SCHEMA,
    UNREADABLE,
    ShardRow,
    VideoFacts,
    axis_rows,
    check_rows,
    checked_dataset,
    checksum_of,
    clip_starts,
    datasets_of,
    facts_at,
    file_image,
    frames_of,
    place_of,
    ranges_of,
    row_of,
    shard_name,
    verify_shard,
)
from .sharded_array import Part, ShardedArray, forget_maps

_PART_NAME = re.compile(r"(\d{9,})-[0-9a-f]{32}\.parquet")


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
    """

    def __init__(self, cache: Path, recipe: Mapping[str, Any]) -> None:
        self.recipe: dict[str, Any] = parse_json(canonical_json(recipe), "the recipe")
        self.key = key_of(self.recipe)
        self.root = cache / "features" / folder_name(self.recipe["extractor"], self.recipe)
        self._tidied: set[Path] = set()

    @classmethod
    def open(cls, folder: Path) -> FeatureStore:
        """The store in an existing folder.

        Raises:
            StoreError: spec.json is missing or does not hash to the folder's name.
        """
        path = folder / "spec.json"
        if not path.is_file():
            raise StoreError(f"{folder} is not a feature set: it has no spec.json")
        recipe = read_json(path)
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

        Raises:
            StoreError: another recipe is there already (a key collision or an edited file).
        """
        path = self.root / "spec.json"
        if path.is_file():
            other = read_json(path)
            if other != self.recipe:
                lines = "; ".join(differing_fields(self.recipe, other))
                raise StoreError(f"{path} holds another recipe: {lines}")
            return
        text = json.dumps(self.recipe, indent=1, sort_keys=True, ensure_ascii=False)
        write_text(path, text)

    # -- names ---------------------------------------------------------------------------------

    def video_folder(self, content_id: str) -> Path:
        """Where the shards of a video lie."""
        return self.root / "shards" / content_id.partition("-")[2][:2] / content_id

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
        self._remove_stale(path.parent)
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

    def _remove_stale(self, folder: Path) -> None:
        """Delete temporary files of killed processes, once for each folder."""
        if folder not in self._tidied and folder.is_dir():
            self._tidied.add(folder)
            remove_stale(folder)

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
            with h5py.File(path, "r") as file:
                facts = facts_at(file, path)
                for axis in axes:
                    # Rows of clips that begin before `at` are in the shard before this one.
                    first = int(np.searchsorted(clip_starts(file, facts, axis), at))
                    begin = checked_dataset(file, place_of(facts, axis, "frame_start"))[:]
                    parts[axis].append(Part(path, first, len(begin)))
                    starts[axis].append(begin[first:])
                    end = checked_dataset(file, place_of(facts, axis, "frame_stop"))
                    stops[axis].append(end[first:])
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
        if rows:
            self._add_part(_index_table(rows))

    def _add_part(self, table: pa.Table, number: int | None = None) -> None:
        """Write a part that is read after all others, or with a given number: later rows count."""
        if number is None:
            number = max(map(_part_number, self._parts()), default=0) + 1
        write_table(self.root / "index" / f"{number:09d}-{uuid.uuid4().hex}.parquet", table)

    def _parts(self) -> list[Path]:
        """In the order in which they were made."""
        parts = (self.root / "index").glob("*.parquet")
        return sorted(parts, key=lambda path: (_part_number(path), path.name))

    def index(self, contents: Collection[str] | None = None) -> pa.Table:
        """All index parts as one table; of a shard written twice, the later row counts.

        Args:
            contents:
                Only the shards of these videos; None reads all.
        """
        tables = []
        for path in self._parts():
            try:
                part = pq.ParquetFile(path).read()
            except FileNotFoundError:
                continue  # another run has just folded the parts
            for field in INDEX_SCHEMA:
                if field.name not in part.column_names:  # by an older version
                    part = part.append_column(field, pa.nulls(len(part), field.type))
            if contents is not None:
                wanted = pa.array(contents, pa.string())
                part = part.filter(pc.is_in(part["content_id"], value_set=wanted))
            tables.append(part.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA))
        table = pa.concat_tables([INDEX_SCHEMA.empty_table(), *tables])
        keys = ["content_id", "frame_start", "frame_stop"]
        others = [name for name in INDEX_SCHEMA.names if name not in keys]
        return pa.table(
            table.group_by(keys, use_threads=False)
            .aggregate([(name, "last") for name in others])
            .rename_columns([*keys, *others])
            .sort_by([(k, "ascending") for k in keys])
        )

    def rebuild_index(self) -> int:
        """Write the index again from the shards; returns their number.

        A shard that cannot be read is left out: `verify` names it. Old temporary files are deleted.
        """
        for folder in {path.parent for path in self.root.rglob(".*.tmp")}:
            self._remove_stale(folder)
        old = self._parts()
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
            path.unlink(missing_ok=True)
        return count + len(rows)

    def fold_index(self, most: int = 64) -> None:
        """Make one index part of many; other processes may read and add meanwhile."""
        old = self._parts()
        if len(old) > most:
            # It gets the number of the last part, so parts that others add meanwhile sort after it.
            self._add_part(self.index(), _part_number(old[-1]))
            for part in old:
                part.unlink(missing_ok=True)

    # -- care ----------------------------------------------------------------------------------

    def verify(self) -> list[str]:
        """Read every shard; one line for each problem, see `problems_of`."""
        return [problem.text for problem in problems_of(self)]

    def remove_video(self, content_id: str) -> None:
        """Delete the shards of a video."""
        forget_maps(self.video_folder(content_id))
        shutil.rmtree(self.video_folder(content_id), ignore_errors=True)


def _part_number(path: Path) -> int:
    """0 for parts of older versions, which had none."""
    match = _PART_NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def list_stores(cache: Path) -> list[FeatureStore]:
    """All feature sets of a cache, by name."""
    return [FeatureStore.open(p.parent) for p in sorted((cache / "features").glob("*/spec.json"))]


def chosen_stores(cache: Path, names: Collection[str]) -> list[FeatureStore]:
    """The feature sets of these full names; without any, all.

    Raises:
        StoreError: there is none of that name.
    """
    stores = {store.name: store for store in list_stores(cache)}
    for name in names:
        if name not in stores:
            raise StoreError(f"{cache} has no feature set {name!r}; see vadpipe cache ls")
    return [stores[name] for name in names or stores]


def store_like(cache: Path, name: str) -> FeatureStore:
    """The one feature set whose name begins like this.

    Raises:
        StoreError: there is none, or several: the message lists them.
    """
    known = list_stores(cache)
    found = [store for store in known if store.name.startswith(name)]
    if not found:
        there = choices([store.name for store in known], name)
        raise StoreError(f"{cache} needs one feature set {name!r}, has none; there are: {there}")
    if len(found) > 1:
        names = ", ".join(store.name for store in found)
        raise StoreError(f"{cache} needs one feature set {name!r}, has {names}")
    return found[0]


_PART_ROWS = 1 << 16


def _index_table(rows: Sequence[ShardRow]) -> pa.Table:
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=INDEX_SCHEMA)
