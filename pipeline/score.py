"""Score stage: a model and some footage -> a score folder; what is missing is extracted first."""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..data_manifests.atomic import CannotWrite, write_atomically, write_table
from ..data_manifests.errors import VadpipeError
from ..data_manifests.record import Manifest, VideoRecord
from ..detectors.base import Detector, Scores
from ..extractors.footage.video import ProbeRow
from ..extractors.weights.slots import WeightsChoice
from .bags import StoreBags
from .engine.extractor_spec import ExtractorSpec, stores_of
from .engine.planning import plan_videos
from .engine.progress import console, progress_bar
from .engine.settings import Engine
from .extract import Extracted, extract_features
from .models import (
    ModelFolder,
    checksums_of,
    how_to_import,
    imported_stores,
    specs_of_model,
)
from .scores.events import (
    EVENT_SCHEMA,
    Calibration,
    Event,
    EventConfig,
    EventError,
    EventThresholds,
    events_table,
    find_events,
)
from .scores.frames import MetricsError
from .scores.maps import covered_by_grids, maps_stamp, remove_other_maps, write_maps
from .store.errors import StoreError
from .store.failures import Failure, describe_failure, write_failures
from .store.feature_store import FeatureStore
from .store.keys import canonical_json
from .store.probe_table import Probed

SCORE_VERSION = 2
SCRATCH, LOCK, TABLES = ".features", ".lock", ".tables-"  # in a score folder
ROW_GROUP = 1000  # videos whose rows and events are written together


class ScoreError(VadpipeError, RuntimeError):
    """Scoring cannot begin; the message says what to do."""


@dataclass
class Scored:
    """What a score run did.

    Attributes:
        out: the score folder.
        videos: video ids with scores.
        fresh: how many of them were scored by this run.
        extracted: shards that had to be written first.
        events: found in all.
        failures: videos that failed at any stage.
    """

    out: Path
    videos: list[str] = field(default_factory=list)
    fresh: int = 0
    extracted: int = 0
    events: int = 0
    failures: list[Failure] = field(default_factory=list)


def score_footage(
    model: Path,
    manifest: Manifest,
    probed: Probed,
    out: Path,
    cache: Path,
    *,
    engine: Engine | None = None,
    events: EventConfig | None = None,
    weights: WeightsChoice = None,
    settled: Sequence[ExtractorSpec] = (),
    keep_maps: bool = True,
    discard_features: bool = False,
    command: str = "",
) -> Scored:
    """Score the videos of a manifest with a trained model.

    Writes `run.json`, `videos.parquet`, `scores/<video_id>.parquet` (one part a video, at the
    detector's rate), `maps/<video_id>.h5` where the detector gives maps, `scores.parquet` (all
    parts in one), `events.parquet` and `failures.parquet` under `out`. A video is scored as soon as
    its features are whole. Parts and maps of the same model and footage are kept, and need no
    features any more.

    Args:
        model:
            Model folder.
        manifest:
            The videos to score.
        probed:
            Their files.
        out:
            Score folder.
        cache:
            Root of the cache.
        engine:
            Where and how features are extracted; the detector runs on its first device.
        events:
            How scores become events.
        weights:
            One's own weights file, where the model's features came from one; slot -> file where
            an extractor has several networks.
        settled:
            Extractors of the same run, taken where the model was trained on their features.
        keep_maps:
            Store the maps of videos that are scored.
        discard_features:
            Keep the features of a video only until it is scored, in the score folder: those of the
            videos at work are all that is on disk at a time. Features in the cache are used and
            kept.
        command:
            Noted in run.json.

    Raises:
        DetectorError: the model cannot be loaded.
        ExtractorError: this version extracts other features than the model was trained on.
        StoreError: the model was trained on imported features that the cache does not have.
        ClusterError: the cluster cannot be used.
        CannotWrite: the disk is full or read-only; what is finished is kept.
        ScoreError: another run writes to the same score folder.
    """
    engine, config = engine or Engine(), events or EventConfig()
    with _alone_in(out):
        detector, card = ModelFolder(model).load()
        imported = imported_stores(card, cache)
        detector.to(engine.own_device())
        specs = specs_of_model(card, weights=weights, settled=settled, engine=engine)
        done = Scored(out, failures=list(probed.failures))
        scoring = _Scoring(detector, card, imported, out, keep_maps, done)
        records = [r for r in manifest.records if r.video_id in probed.rows]
        rows = probed.rows
        missing = [r for r in records if not scoring.is_current(r, rows[r.video_id])]
        stores = stores_of(specs, cache)
        asked = Probed({r.video_id: rows[r.video_id] for r in missing})
        planned = {plan.row.content_id for plan in plan_videos(asked, stores, engine.span_frames)}
        whole = {
            v: row.content_id not in planned and not (stores and row.kind == "features")
            for v, row in asked.rows.items()
        }
        scoring.score_all([r for r in missing if whole[r.video_id]], rows, stores)
        to_do = [r for r in missing if not whole[r.video_id]]
        place = out / SCRATCH if discard_features else cache
        extracted = _extract_and_score(scoring, manifest, to_do, rows, specs, cache, place, engine)
        shutil.rmtree(out / SCRATCH, ignore_errors=True)  # also of a run that was killed
        done.extracted = extracted.written
        done.failures += extracted.failures
        thresholds = Calibration.from_json(card["calibration"]).thresholds(config)
        failed = {failure.video_id for failure in done.failures}
        scored = [r for r in records if r.video_id not in failed]
        (out / "metrics.json").unlink(missing_ok=True)  # of the scores that were here before
        _remove_other_parts(out, [r.video_id for r in manifest.records])
        remove_other_maps(out, [r.video_id for r in manifest.records])
        _write_tables(out, scored, rows, detector, thresholds, config, done)
        write_failures(out / "failures.parquet", done.failures)
        run = {
            "dataset": manifest.dataset,
            "manifest_digest": manifest.digest,
            "videos": len(done.videos),
            "failures": len(done.failures),
            "model": {"folder": str(model), **ModelFolder(model).describe()},
            "threshold": {**thresholds.to_json(), "calibration": _calibration_facts(card)},
            "events": config.model_dump(mode="json"),
            "device": engine.device,
            "versions": {n: version(n) for n in ("vadpipe", "torch", "av", "numpy", "h5py")},
            "command": command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = json.dumps(run, indent=1)
        write_atomically(out / "run.json", lambda p: p.write_text(text, encoding="utf-8"))
        return done


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Hold a score folder; a run that is killed lets go of it, and its leftovers are deleted."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ScoreError(
                f"another run is at work in {out}: wait until it ends (vadpipe status), or take "
                "another folder"
            ) from None
        except OSError as error:  # a file server without locks
            console.print(f"{out} cannot be locked ({error}): see that no other run uses it")
        for leftover in out.glob(f"{TABLES}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


class _Scoring:
    """Scores videos one by one; one that fails costs only itself."""

    def __init__(
        self,
        detector: Detector[Any],
        card: Mapping[str, Any],
        imported: Sequence[FeatureStore],
        out: Path,
        keep_maps: bool,
        done: Scored,
    ) -> None:
        self._detector = detector
        self._key = card["key"]
        self._imported = imported
        self.checksums_of = checksums_of(imported)
        self._covered = covered_by_grids(card["features"].values())
        self._out = out
        self._keep_maps = keep_maps
        self._done = done

    def is_current(self, record: VideoRecord, row: ProbeRow) -> bool:
        """Whether the scores of a video are there already."""
        stamp = self._stamp(record, row)
        return _is_current(self._out, record.video_id, stamp, keep_maps=self._keep_maps)

    def _stamp(self, record: VideoRecord, row: ProbeRow) -> str:
        return _stamp(self._key, record, row, self.checksums_of.get(row.content_id, []))

    def score_all(
        self,
        records: Sequence[VideoRecord],
        rows: Mapping[str, ProbeRow],
        stores: Sequence[FeatureStore],
    ) -> None:
        """Score videos whose features are whole."""
        if not records:
            return
        with progress_bar("score", len(records)) as advance:
            for record in records:
                self.score_one(record, rows[record.video_id], stores)
                advance(1)

    def score_one(self, record: VideoRecord, row: ProbeRow, stores: Sequence[FeatureStore]) -> None:
        """Score a video whose features are whole.

        Raises:
            CannotWrite: the disk is full or read-only.
        """
        video_id = record.video_id
        try:
            for store in self._imported:
                if not store.complete(row.content_id):
                    raise StoreError(f"{store.name} lacks it: {how_to_import(store)}")
            sources = [*stores, *self._imported]
            bag = StoreBags([record], {video_id: row}, sources, labels=False)[0]
            scores = self._detector.score(bag)
            kept = scores if self._keep_maps else replace(scores, maps={})
            stamp = self._stamp(record, row)
            write_maps(self._out, video_id, kept, stamp, self._covered)  # the part is the last
            features = sources[0].read(row.content_id)
            flags = sorted({*row.flags, *features.flags})
            facts = {"n_frames": features.n_frames, "fps": features.fps, "flags": flags}
            part = self._out / "scores" / f"{video_id}.parquet"
            _write_part(part, record, scores, stamp, facts)
            self._done.fresh += 1
        except CannotWrite:
            raise
        except Exception as error:  # one bad video never stops a run
            self._done.failures.append(describe_failure(video_id, "score", error))


def _extract_and_score(
    scoring: _Scoring,
    manifest: Manifest,
    records: Sequence[VideoRecord],
    rows: Mapping[str, ProbeRow],
    specs: Sequence[ExtractorSpec],
    cache: Path,
    place: Path,
    engine: Engine,
) -> Extracted:
    """Extract what is missing into `place`; a video is scored as soon as its features are whole.

    Where that is not the cache, they are deleted then.
    """
    stores = stores_of(specs, place)
    waiting: dict[str, list[VideoRecord]] = {}
    for record in records:
        waiting.setdefault(rows[record.video_id].content_id, []).append(record)

    def score_video(content: str) -> None:
        for record in waiting.pop(content):
            scoring.score_one(record, rows[record.video_id], stores)
        if place != cache:
            for store in stores:
                store.remove_video(content)

    probed = Probed({r.video_id: rows[r.video_id] for r in records})
    extracted = extract_features(
        manifest, probed, specs, cache, engine=engine, when_done=score_video, store_root=place
    )
    # What a run that was killed has left behind was whole from the beginning.
    for content in {rows[v].content_id for v in extracted.rows} & waiting.keys():
        score_video(content)
    return extracted


_ROW_FIELDS = ("path", "content_id", "kind", "height", "width")
VIDEO_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("path", pa.string()),
        ("content_id", pa.string()),
        ("kind", pa.string()),
        ("n_frames", pa.int64()),
        ("fps", pa.float64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("frame_start", pa.int64()),
        ("frame_stop", pa.int64()),
        ("flags", pa.list_(pa.string())),
    ]
)
SCORE_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("frame_start", pa.int64()),
        ("frame_stop", pa.int64()),
        ("score", pa.float64()),
    ]
)


def _stamp(key: str, record: VideoRecord, row: ProbeRow, imported: Sequence[str]) -> str:
    made_of: dict[str, Any] = {
        "score_version": SCORE_VERSION,
        "model": key,
        "content_id": row.content_id,
        "part": list(record.part),
    }
    return canonical_json(made_of | ({"imported": list(imported)} if imported else {}))


def _is_current(out: Path, video_id: str, stamp: str, *, keep_maps: bool) -> bool:
    """True if the part is of this stamp, and so are its maps, where there are or should be any."""
    part = out / "scores" / f"{video_id}.parquet"
    if not part.is_file():
        return False
    metadata = pq.read_schema(part).metadata or {}
    if metadata.get(b"vadpipe") != stamp.encode():
        return False
    stored = maps_stamp(out, video_id)
    if stored is None:  # parts of older versions do not say how many maps there were
        return not keep_maps or metadata.get(b"maps") == b"0"
    return stored == stamp


def _write_part(
    path: Path, record: VideoRecord, scores: Scores, stamp: str, facts: Mapping[str, Any]
) -> None:
    columns: dict[str, Any] = {
        "video_id": pa.array([record.video_id] * len(scores.frame_start), pa.string()),
        "frame_start": np.asarray(scores.frame_start, np.int64),
        "frame_stop": np.asarray(scores.frame_stop, np.int64),
        **{name: np.asarray(values, np.float64) for name, values in scores.columns.items()},
    }
    metadata = {
        "vadpipe": stamp,
        "maps": str(len(scores.maps)),
        "video": json.dumps(facts),  # features may be gone when somebody asks
    }
    write_table(path, pa.table(columns).replace_schema_metadata(metadata))


def _remove_other_parts(out: Path, videos: Sequence[str]) -> None:
    """A part of a video that is no longer in the manifest would be read as a result."""
    kept = set(videos)
    for path in (out / "scores").glob("*.parquet"):
        if path.stem not in kept:
            path.unlink()


def _write_tables(
    out: Path,
    records: Sequence[VideoRecord],
    rows: Mapping[str, ProbeRow],
    detector: Detector[Any],
    thresholds: EventThresholds,
    config: EventConfig,
    done: Scored,
) -> None:
    """scores.parquet, videos.parquet and events.parquet in one pass over the parts.

    In manifest order, a row group a video in the first and one for many in the others: memory does
    not grow with the number of videos.
    """
    with ExitStack() as files:
        tables = _Tables(files, out, detector.name)
        for first in range(0, len(records), ROW_GROUP):
            found: dict[str, list[Event]] = {}
            videos: list[dict[str, Any]] = []
            for record in records[first : first + ROW_GROUP]:
                part = pq.ParquetFile(out / "scores" / f"{record.video_id}.parquet").read()
                try:
                    video = _video_of(record, rows[record.video_id], part)
                    found[record.video_id] = find_events(
                        part["frame_start"].to_numpy(),
                        part["frame_stop"].to_numpy(),
                        part["score"].to_numpy(),
                        video["fps"],
                        thresholds.high.value,
                        thresholds.low.value,
                        config,
                    )
                except (EventError, MetricsError) as error:
                    done.failures.append(describe_failure(record.video_id, "score", error))
                    continue
                videos.append(video)
                tables.add_scores(part)
            tables.add(videos, events_table(found))
            done.videos += [video["video_id"] for video in videos]
            done.events += sum(map(len, found.values()))


class _Tables:
    """Three Parquet files that are written piece by piece, and moved to their names in the end."""

    def __init__(self, files: ExitStack, out: Path, detector: str) -> None:
        schema = SCORE_SCHEMA.with_metadata({"detector": detector})
        self._scores = files.enter_context(_growing(out / "scores.parquet", schema))
        self._videos = files.enter_context(_growing(out / "videos.parquet", VIDEO_SCHEMA))
        self._events = files.enter_context(_growing(out / "events.parquet", EVENT_SCHEMA))
        self._detector = detector

    def add_scores(self, part: pa.Table) -> None:
        """The rows of one video."""
        self._scores(part.replace_schema_metadata({"detector": self._detector}))

    def add(self, videos: Sequence[Mapping[str, Any]], events: pa.Table) -> None:
        """The facts and the events of many."""
        self._videos(pa.Table.from_pylist(list(videos), schema=VIDEO_SCHEMA))
        self._events(events)


@contextmanager
def _growing(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """A table of many pieces; the value adds one. Without any it is empty, of this schema."""
    with tempfile.TemporaryDirectory(prefix=TABLES, dir=path.parent) as folder:
        writer: pq.ParquetWriter | None = None
        temporary = Path(folder) / path.name

        def add(table: pa.Table) -> None:
            nonlocal writer
            writer = writer or pq.ParquetWriter(temporary, table.schema)
            writer.write_table(table)

        yield add
        if writer is None:
            add(schema.empty_table())
        assert writer is not None
        writer.close()
        write_atomically(path, lambda p: temporary.rename(p))


def _video_of(record: VideoRecord, row: ProbeRow, part: pa.Table) -> dict[str, Any]:
    facts = json.loads(part.schema.metadata[b"video"])
    start, stop = record.frame_range(facts["n_frames"])
    return {
        **{name: getattr(row, name) for name in _ROW_FIELDS},
        **facts,
        "video_id": record.video_id,
        "frame_start": start,
        "frame_stop": stop,
    }


def _calibration_facts(card: Mapping[str, Any]) -> dict[str, Any]:
    return {k: card["calibration"][k] for k in ("n_rows", "n_videos", "method")}
