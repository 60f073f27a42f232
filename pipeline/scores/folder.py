"""A score folder: the only owner of its files, their names, schemas, lock and stamps.

Nothing else in the library builds a path in a score folder. Files are written whole or not at all.
A video is scored when its part is there with the right stamp; the tables over all videos are
written from the parts at the end of a run.
"""

from __future__ import annotations

import fcntl
import json
import math
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...data_manifests.atomic import write_text
from ...data_manifests.stored import DamagedFile, read_json
from ...detectors.base import Scores
from ...extractors.footage.video import ProbeRow
from ..store.errors import StoreError
from ..store.failures import FAILURE_SCHEMA, Failure, write_failures
from ..store.locks import lock_file
from .checked import checked_events, checked_failures, checked_run, checked_videos
from .events import EVENT_SCHEMA
from .held_out import FILE, HeldOut
from .maps import ScoreMaps, Share, maps_stamp, open_maps, write_maps
from .part import (
    SCORE_VERSION,
    ScoreFolderError,
    file_inside,
    is_of_file,
    is_of_weights,
    part_metadata,
    part_stamp,
    read_columns,
    read_part,
    smooth_part,
    write_part,
)
from .regions import read_regions, regions_stamp, write_regions
from .smoothing import Smoothing
from .video_tables import SCORE_SCHEMA, VIDEO_SCHEMA, Tables, growing_tables, table_facts

__all__ = ["PAGE", "SCORE_VERSION", "ScoreFolder", "ScoreFolderError", "part_stamp"]

PAGE = "report.html"
_METRICS, _TABLES = "metrics-", ".tables-"  # prefixes: metrics of other columns, tables that grow


class ScoreFolder:
    """The scores of some videos by one model, with events, metrics and page.

    Args:
        path:
            The folder; it need not exist.

    Attributes:
        path: the folder.
        run_file: what `write_run` writes, the last file of a run.
        metrics_file: what `write_metrics` writes.
        failures_file: videos without scores, and why.
        page: where the report goes by default; `review`: the folder of the review page.
        scratch: for features that are kept only until their video is scored.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_file = path / "run.json"
        self.metrics_file = path / "metrics.json"
        self.failures_file = path / "failures.parquet"
        self.page, self.review = path / PAGE, path / "review"
        self.scratch = path / ".features"
        self._lock = path / ".lock"
        self._scores = path / "scores.parquet"
        self._videos = path / "videos.parquet"
        self._events = path / "events.parquet"
        self._parts = path / "scores"
        self._maps = path / "maps"
        self._regions = path / "regions"
        self._held_out = path / FILE

    @contextmanager
    def locked(self) -> Iterator[str | None]:
        """Make the folder and lock it, so that no other run writes to it.

        The lock ends with the process, so a killed run needs no cleaning by hand. Tables that it
        left half-written are deleted.

        Yields:
            None, or why the folder could not be locked (a file server without locks).

        Raises:
            ScoreFolderError: another run holds the lock.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        problem = None
        with lock_file(self._lock) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ScoreFolderError(
                    f"another run is at work in {self.path}: wait until it ends (vadpipe status), "
                    "or take another folder"
                ) from None
            except OSError as error:
                problem = f"{self.path} cannot be locked ({error}): see that no other run uses it"
            for leftover in self.path.glob(f"{_TABLES}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            yield problem

    # -- videos --------------------------------------------------------------------------------

    def is_current(
        self,
        video_id: str,
        stamp: str,
        row: ProbeRow | None = None,
        *,
        keep_maps: bool,
        weights: str | None = None,
    ) -> bool:
        """Whether the part has this stamp, as well as its regions and maps where some should be.

        Args:
            video_id:
                As in the manifest.
            stamp:
                See `part_stamp`.
            row:
                The file that it should be of, see `is_of_file`; None compares nothing.
            keep_maps:
                Maps should be there if the detector makes any.
            weights:
                Of the model, see `is_of_weights`.
        """
        part = self._part_path(video_id)
        if not part.is_file():
            return False
        try:
            metadata = part_metadata(part)
        except ScoreFolderError:
            return False  # damaged: it is written again
        same = metadata.get(b"vadpipe") == stamp.encode() and is_of_file(metadata, row)
        if not same or not is_of_weights(metadata, weights):
            return False
        boxes = regions_stamp(self._regions_path(video_id))
        if boxes != (stamp if b"regions" in metadata else None):
            return False
        stored = maps_stamp(self._maps_path(video_id))
        if stored is None:  # parts of older versions do not say how many maps there were
            return not keep_maps or metadata.get(b"maps") == b"0"
        return stored == stamp

    def write_scores(
        self,
        video_id: str,
        scores: Scores,
        stamp: str,
        facts: Mapping[str, Any],
        *,
        keep_maps: bool = True,
        covered: Mapping[tuple[int, int], Share] | None = None,
    ) -> None:
        """Write maps and regions of a video and then its part, which says that all is done.

        Args:
            video_id:
                As in the manifest.
            scores:
                Of the detector.
            stamp:
                See `part_stamp`.
            facts:
                The row of `VIDEO_SCHEMA`, or at least n_frames, fps and flags. The features may be
                deleted before the tables are written, and later runs may not list the video.
                `whole_id` lets a later run tell whether the file is still that one, `weights`
                (SHA-256) whether the model is.
            keep_maps:
                Write the maps too.
            covered:
                What grids cover, see `write_maps`.

        Raises:
            StoreError: a map is not (n, rows, columns).
            RegionError: regions are not of their schema.
            CannotWrite: the disk is full or read-only.
        """
        kept = scores if keep_maps else replace(scores, maps={})
        write_maps(self._maps_path(video_id), kept, stamp, covered or {})
        write_regions(self._regions_path(video_id), scores.regions, stamp)
        write_part(self._part_path(video_id), video_id, scores, stamp, facts)

    def video_ids(self) -> list[str]:
        """The videos that have a part, in no order."""
        return [path.stem for path in self._parts.glob("*.parquet")]

    def stamp(self, video_id: str) -> str:
        """What the part of a video is made of, see `part_stamp`.

        Raises:
            ScoreFolderError: it is missing or damaged.
        """
        return self.notes(video_id).get(b"vadpipe", b"").decode()

    def notes(self, video_id: str) -> Mapping[bytes, bytes]:
        """What is noted in the part of a video, see `part_metadata`; raises what it raises."""
        return part_metadata(self._part_path(video_id))

    def facts(self, video_id: str) -> dict[str, Any]:
        """What `write_scores` was told of a video.

        Raises:
            ScoreFolderError: its part is missing or damaged.
            DamagedFile: it says nothing of the video.
        """
        return table_facts(self.notes(video_id))

    def smooth(self, video_id: str, smoothing: Smoothing | None) -> None:
        """Smooth the scores of a video, or take it back, see `smooth_part`.

        Raises:
            ScoreFolderError: its part is missing or damaged.
            MetricsError: its scores are not finite.
            CannotWrite: the disk is full or read-only.
        """
        smooth_part(self._part_path(video_id), smoothing)

    def smoothing(self) -> str | None:
        """How the scores of the run were smoothed, see `Smoothing.text`; None where they were not.

        Raises:
            ScoreFolderError: the run is missing or damaged.
        """
        text = self.run().get("smooth")
        return text if isinstance(text, str) else None

    def keep_only(self, videos: Iterable[str]) -> None:
        """Delete parts, maps and regions of all other videos; nothing else deletes results."""
        kept = set(videos)
        for path in chain(*(each.glob("*.*") for each in (self._parts, self._regions, self._maps))):
            if path.stem not in kept:
                path.unlink()

    def scores(self, video_id: str, column: str = "score") -> pa.Table:
        """The rows of a video: frame_start, frame_stop, score, further columns of the detector.

        Args:
            video_id:
                As in the manifest.
            column:
                A score column that has to be there.

        Raises:
            ScoreFolderError: they are missing or damaged or lack the column, or the id is not a
                file name.
        """
        return read_part(self._part_path(video_id), column)

    def maps(self, video_id: str) -> ScoreMaps | None:
        """The maps of a video; None where it has none.

        Raises:
            StoreError: the file is damaged, or is not what `write_scores` writes.
            ScoreFolderError: the id is not a file name.
        """
        return open_maps(self._maps_path(video_id), self._part_path(video_id))

    def read_map(
        self, video_id: str, name: str, start: int = 0, stop: int | None = None
    ) -> NDArray[np.float32]:
        """Rows [start, stop) of one map of a video, without reading the others.

        Args:
            video_id:
                As in the manifest.
            name:
                Of the map, as the detector named it ("patch/2x3").
            start:
                First row; rows are those of `scores`.
            stop:
                One past the last row.

        Returns:
            (stop - start, rows, columns) float32.

        Raises:
            StoreError: the video has no maps, or none of this name; the message lists what it has.
            ScoreFolderError: the id is not a file name.
        """
        maps = self.maps(video_id)
        if maps is None:
            raise StoreError(
                f"{self.path} has no maps of {video_id!r}: its detector makes none, or score ran "
                "with --no-maps"
            )
        return maps.read(name, start, stop)

    def regions(self, video_id: str) -> pa.Table | None:
        """The boxes of a video, sorted by frame, see `REGION_SCHEMA`; None where it has none.

        Raises:
            RegionError: the file is damaged, or is not what `write_scores` writes.
            ScoreFolderError: the id is not a file name.
        """
        return read_regions(self._regions_path(video_id), self._part_path(video_id))

    def _part_path(self, video_id: str) -> Path:
        return file_inside(self._parts, video_id, ".parquet")

    def _maps_path(self, video_id: str) -> Path:
        return file_inside(self._maps, video_id, ".h5")

    def _regions_path(self, video_id: str) -> Path:
        return file_inside(self._regions, video_id, ".parquet")

    # -- tables over all videos ----------------------------------------------------------------

    @contextmanager
    def tables(self, detector: str, columns: Sequence[str] = ("score",)) -> Iterator[Tables]:
        """Write the tables of scores, videos and events; they get their names at the end.

        Args:
            detector:
                Its name, noted in the table of scores.
            columns:
                The score columns of every video, "score" among them.

        Raises:
            CannotWrite: the disk is full or read-only.
        """
        others = [(name, pa.float64()) for name in columns if name != "score"]
        schema = pa.schema([*SCORE_SCHEMA, *others], {"detector": detector})
        places = self._scores, self._videos, self._events
        with growing_tables(*places, schema, _TABLES) as tables:
            yield tables

    def videos(self) -> list[dict[str, Any]]:
        """One row for each scored video, with the columns of `VIDEO_SCHEMA`, maybe scenes.

        Raises:
            ScoreFolderError: the table is missing or damaged.
        """
        return self._rows(self._videos, VIDEO_SCHEMA, checked_videos)

    def events(self) -> list[dict[str, Any]]:
        """One row for each event, with the columns of `EVENT_SCHEMA`, maybe scenes.

        Raises:
            ScoreFolderError: the table is missing or damaged.
        """
        return self._rows(self._events, EVENT_SCHEMA, checked_events)

    def failures(self) -> list[dict[str, Any]]:
        """One row for each failure, with the columns of `FAILURE_SCHEMA`.

        Raises:
            ScoreFolderError: the table is missing or damaged.
        """
        return self._rows(self.failures_file, FAILURE_SCHEMA, checked_failures)

    def write_failures(self, failures: Iterable[Failure]) -> None:
        """Write the table of failures, also when there are none."""
        write_failures(self.failures_file, failures)

    def _rows(
        self, path: Path, schema: pa.Schema, check: Callable[[list[dict[str, Any]], Path], None]
    ) -> list[dict[str, Any]]:
        self._needs(path)
        rows: list[dict[str, Any]] = read_columns(path, tuple(schema.names)).to_pylist()
        check(rows, path)
        return rows

    # -- run and metrics -----------------------------------------------------------------------

    def write_run(self, run: Mapping[str, Any]) -> None:
        """Write what was run: model, thresholds, versions."""
        write_text(self.run_file, json.dumps(run, indent=1))

    def run(self) -> dict[str, Any]:
        """What `write_run` wrote; `model` and `threshold` are objects where they are there.

        Raises:
            ScoreFolderError: it is missing or damaged.
        """
        run = self._json(self.run_file, "run score again")
        checked_run(run, self.run_file)
        return run

    def threshold(self) -> float | None:
        """The score above which frames start an event; None where the run has none.

        Raises:
            ScoreFolderError: there is no run, or it is damaged.
        """
        value = (self.run().get("threshold") or {}).get("high")
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def write_held_out(self, held_out: HeldOut | None) -> None:
        """Write the held-out rows of the model, so that the folder can do without the model.

        Args:
            held_out:
                None where the model has none; rows of an earlier model are deleted then.
        """
        if held_out is None:
            self._held_out.unlink(missing_ok=True)
        else:
            held_out.write(self._held_out)

    def held_out(self) -> HeldOut | None:
        """What `write_held_out` wrote; None where there is none.

        Raises:
            HeldOutError: it is damaged.
        """
        return HeldOut.read(self._held_out)

    def metrics_of(self, column: str) -> Path:
        """Where the metrics of a score column are: `metrics_file` for the column "score"."""
        if column == "score":
            return self.metrics_file
        return self.path / f"{_METRICS}{quote(column, safe='')}.json"

    def write_metrics(self, values: Mapping[str, Any], column: str = "score") -> None:
        """Write what evaluate measured of a score column."""
        write_text(self.metrics_of(column), json.dumps(values, indent=1))

    def remove_metrics(
        self,
        of: Collection[str] | None = None,
        *,
        threshold: float | None = None,
        smooth: str | None = None,
    ) -> None:
        """Delete metrics whose scores are others now.

        Args:
            of:
                Only metrics that one of these videos is part of; None deletes all.
            threshold:
                Of the scores now; if the run had another, all metrics are deleted.
            smooth:
                Smoothing of the scores now; if the run had another, all metrics are deleted.
        """
        if of is not None and not self._was_run_with(threshold, smooth):
            of = None
        for path in (self.metrics_file, *self.path.glob(f"{_METRICS}*.json")):
            if of is None or not self._measured(path).isdisjoint(of):
                path.unlink(missing_ok=True)

    def _was_run_with(self, threshold: float | None, smooth: str | None) -> bool:
        try:
            return self.threshold() == threshold and self.smoothing() == smooth
        except ScoreFolderError:  # there is no whole run: nothing says what metrics are of
            return False

    def _measured(self, path: Path) -> set[str]:
        if not path.is_file():
            return set()
        rows = self._json(path, "delete it and run evaluate again").get("videos")
        rows = rows if isinstance(rows, list) else []
        return {str(row.get("video_id")) for row in rows if isinstance(row, dict)}

    def metrics(self, column: str = "score") -> dict[str, Any] | None:
        """What `write_metrics` wrote; None before the column was evaluated.

        Raises:
            ScoreFolderError: it is damaged.
        """
        path = self.metrics_of(column)
        if not path.is_file():
            return None
        return self._json(path, "run evaluate again")

    def _json(self, path: Path, cure: str) -> dict[str, Any]:
        self._needs(path)
        try:
            return read_json(path)
        except DamagedFile as error:
            raise ScoreFolderError(f"{error}: {cure}") from error

    def _needs(self, path: Path) -> None:
        if not path.is_file():
            raise ScoreFolderError(
                f"{self.path} is not a score folder: it has no {path.name} (run score)"
            )
