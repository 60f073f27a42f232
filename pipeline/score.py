"""Score stage: a model and some footage -> a score folder; what is missing is extracted first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..data_manifests.record import Manifest, VideoRecord
from ..detectors.base import Detector, Scores
from ..extractors import EXTRACTORS
from ..extractors.base import ExtractorError
from ..extractors.video import ProbeRow
from ..extractors.weights import verify
from .bags import StoreBags
from .events import Calibration, Event, EventConfig, events_table, find_events
from .execute import Failure, describe_failure, progress_bar, write_failures
from .extract import SPAN_FRAMES, ExtractorSpec, extract, resolve_extractor
from .keys import canonical_json, differing_fields, key_of
from .probe import Probed
from .score_maps import covered_by_grids, maps_stamp, remove_other_maps, write_maps
from .store import FeatureStore, StoreError, list_stores, write_atomically
from .train import describe_card, load_model

SCORE_VERSION = 1


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


def score(
    model: Path,
    manifest: Manifest,
    probed: Probed,
    out: Path,
    cache: Path,
    *,
    events: EventConfig | None = None,
    weights: str | None = None,
    device: str = "cpu",
    batch_size: int | None = None,
    workers: int = 0,
    span_frames: int = SPAN_FRAMES,
    keep_maps: bool = True,
    command: str = "",
) -> Scored:
    """Score the videos of a manifest with a trained model.

    Writes `run.json`, `videos.parquet`, `scores/<video_id>.parquet` (one part a video, at the
    detector's rate), `maps/<video_id>.h5` where the detector gives maps, `scores.parquet` (all
    parts in one), `events.parquet` and `failures.parquet` under `out`. Parts and maps of the same
    model and footage are kept.

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
        events:
            How scores become events.
        weights:
            One's own weights file, where the model was trained with one.
        device:
            Where networks run.
        batch_size:
            Clips a batch.
        workers:
            Local processes for extraction.
        span_frames:
            Frames a span.
        keep_maps:
            Store the maps of videos that are scored.
        command:
            Noted in run.json.

    Raises:
        DetectorError: the model cannot be loaded.
        ExtractorError: this version extracts other features than the model was trained on.
        StoreError: the model was trained on imported features that the cache does not have.
    """
    detector, card = load_model(model)
    imported = imported_stores(card, cache)
    detector.to(device)
    specs = specs_of_model(card, weights=weights, device=device)
    extracted = extract(
        manifest,
        probed,
        specs,
        cache,
        device=device,
        batch_size=batch_size,
        workers=workers,
        span_frames=span_frames,
    )
    done = Scored(out, extracted=extracted.written)
    done.failures = [*probed.failures, *extracted.failures]
    records = [r for r in manifest.records if r.video_id in extracted.rows]
    stores = [*extracted.stores, *imported]
    bags = StoreBags(records, extracted.rows, stores, labels=False)
    checksums = _checksums(imported)
    config = events or EventConfig()
    thresholds = Calibration.from_json(card["calibration"]).thresholds(config)
    covered = covered_by_grids(card["features"].values())
    found: dict[str, list[Event]] = {}
    videos: list[dict[str, Any]] = []
    with progress_bar("score", len(records)) as advance:
        for i, record in enumerate(records):
            try:
                row = extracted.rows[record.video_id]
                for store in imported:
                    if not store.complete(row.content_id):
                        raise StoreError(f"{store.name} lacks it: {_import_them(store)}")
                part = out / "scores" / f"{record.video_id}.parquet"
                stamp = _stamp(card["key"], record, row, checksums.get(row.content_id, []))
                if not _is_current(out, record.video_id, stamp, keep_maps=keep_maps):
                    scores = detector.score(bags[i])
                    kept = scores if keep_maps else replace(scores, maps={})
                    write_maps(out, record.video_id, kept, stamp, covered)  # the part is the last
                    _write_part(part, record, scores, stamp)
                    done.fresh += 1
                table = pq.read_table(part)
                features = stores[0].read(row.content_id)
                found[record.video_id] = find_events(
                    table["frame_start"].to_numpy(),
                    table["frame_stop"].to_numpy(),
                    table["score"].to_numpy(),
                    features.fps,
                    thresholds.high.value,
                    thresholds.low.value,
                    config,
                )
                done.videos.append(record.video_id)
                start, stop = record.frame_range(features.n_frames)
                videos.append(
                    {
                        **{name: getattr(row, name) for name in _ROW_FIELDS},
                        "video_id": record.video_id,
                        "fps": features.fps,
                        "n_frames": features.n_frames,
                        "frame_start": start,
                        "frame_stop": stop,
                        "flags": sorted({*row.flags, *features.flags}),
                    }
                )
            except Exception as error:  # one bad video never stops a run
                done.failures.append(describe_failure(record.video_id, "score", error))
            advance(1)
    (out / "metrics.json").unlink(missing_ok=True)  # of the scores that were here before
    done.events = sum(map(len, found.values()))
    _remove_other_parts(out, done.videos)
    remove_other_maps(out, done.videos)
    _write_all_parts(out, done.videos, detector)
    _write(out / "videos.parquet", pa.Table.from_pylist(videos, schema=VIDEO_SCHEMA))
    _write(out / "events.parquet", events_table(found))
    write_failures(out / "failures.parquet", done.failures)
    run = {
        "dataset": manifest.dataset,
        "manifest_digest": manifest.digest,
        "videos": len(done.videos),
        "failures": len(done.failures),
        "model": {"folder": str(model), **describe_card(card)},
        "threshold": {**thresholds.to_json(), "calibration": _calibration_facts(card)},
        "events": config.model_dump(mode="json"),
        "device": device,
        "versions": {n: version(n) for n in ("vadpipe", "torch", "av", "numpy", "h5py")},
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(run, indent=1)
    write_atomically(out / "run.json", lambda p: p.write_text(text, encoding="utf-8"))
    return done


def specs_of_model(
    card: Mapping[str, Any], *, weights: str | None = None, device: str = "cpu"
) -> list[ExtractorSpec]:
    """The extractors that give exactly the features that a model was trained on.

    Imported features have none, see `imported_stores`.

    Raises:
        ExtractorError: they cannot be had; the message names the fields that differ.
        WeightsError: the weights are missing.
    """
    specs: dict[str, ExtractorSpec] = {}
    for role, recipe in card["features"].items():
        name, identity = recipe["extractor"], recipe["weights"]
        if name == "imported":
            continue
        if name not in EXTRACTORS:
            raise ExtractorError(
                f"the model needs {role!r} features of {name!r}: no such extractor"
            )
        chosen = weights
        if identity is None:
            chosen = None
        elif chosen is None:
            chosen = _weights_spec(name, recipe["config"], identity)
        spec = resolve_extractor(
            name,
            recipe["config"],
            weights=chosen,
            precision=recipe["precision"] or "auto",
            device=device,
        )
        ours = json.loads(canonical_json(spec.make().recipe()))
        if key_of(ours) != key_of(recipe):
            lines = "\n  ".join(differing_fields(ours, recipe))
            raise ExtractorError(
                f"the model was trained on other {role!r} features than these settings give "
                f"(here != model):\n  {lines}"
            )
        specs[key_of(recipe)] = spec
    return list(specs.values())


def imported_stores(card: Mapping[str, Any], cache: Path) -> list[FeatureStore]:
    """The imported feature sets that a model was trained on.

    Raises:
        StoreError: one is not in the cache; the message names the fields in which other imported
            sets of that role differ.
    """
    found: dict[str, FeatureStore] = {}
    for role, recipe in card["features"].items():
        if recipe["extractor"] != "imported":
            continue
        store = FeatureStore(cache, recipe)
        if not (store.root / "spec.json").is_file():
            roles = {spec["role"] for spec in store.array_specs()}
            others = [
                f"{s.name} (here != model): {'; '.join(differing_fields(s.recipe, recipe))}"
                for s in list_stores(cache)
                if s.recipe["extractor"] == "imported"
                and roles & {spec["role"] for spec in s.array_specs()}
            ]
            lines = "".join(f"\n  {line}" for line in others) or " none"
            raise StoreError(
                f"the model was trained on imported {role!r} features that are not in {cache}: "
                f"{_import_them(store)}. Imported sets of that role:{lines}"
            )
        found[store.key] = store
    return list(found.values())


def _import_them(store: FeatureStore) -> str:
    return f"run vadpipe import with --name {store.recipe['config']['name']}"


def _checksums(stores: Sequence[FeatureStore]) -> dict[str, list[str]]:
    """content_id -> what its imported features are; a recipe does not tell that."""
    found: dict[str, list[str]] = {}
    for store in stores:
        for row in store.index().select(["content_id", "checksum"]).to_pylist():
            found.setdefault(row["content_id"], []).append(row["checksum"])
    return found


def _weights_spec(extractor: str, config: Mapping[str, Any], identity: str) -> str:
    """What to give `resolve` so that it finds the weights of a recipe."""
    if identity.startswith("random:"):
        return identity
    kind = EXTRACTORS[extractor]
    for card in kind.cards_for(kind.Config.model_validate(config)):
        # a card that states no hash stands for whatever was fetched for it
        if identity == (card.sha256 or verify(card).sha256):
            return card.name
    raise ExtractorError(
        f"the model's features came from a weights file of sha256 {identity}, which no card of "
        f"{extractor} stands for: give that file with --weights FILE"
    )


_ROW_FIELDS = ("path", "content_id", "kind", "fps", "height", "width")
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


def _write_part(path: Path, record: VideoRecord, scores: Scores, stamp: str) -> None:
    columns: dict[str, Any] = {
        "video_id": pa.array([record.video_id] * len(scores.frame_start), pa.string()),
        "frame_start": np.asarray(scores.frame_start, np.int64),
        "frame_stop": np.asarray(scores.frame_stop, np.int64),
        **{name: np.asarray(values, np.float64) for name, values in scores.columns.items()},
    }
    metadata = {"vadpipe": stamp, "maps": str(len(scores.maps))}
    _write(path, pa.table(columns).replace_schema_metadata(metadata))


def _remove_other_parts(out: Path, videos: Sequence[str]) -> None:
    """A part of a video that is no longer in the manifest would be read as a result."""
    for path in (out / "scores").glob("*.parquet"):
        if path.stem not in set(videos):
            path.unlink()


def _write_all_parts(out: Path, videos: Sequence[str], detector: Detector[Any]) -> None:
    """scores.parquet: one row group a video, in manifest order."""
    parts = [out / "scores" / f"{video_id}.parquet" for video_id in videos]
    schema = pa.schema(
        [
            ("video_id", pa.string()),
            ("frame_start", pa.int64()),
            ("frame_stop", pa.int64()),
            ("score", pa.float64()),
        ]
    )
    if parts:
        schema = pq.read_schema(parts[0]).remove_metadata()
    schema = schema.with_metadata({"detector": detector.name})

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, schema) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part).replace_schema_metadata(schema.metadata))

    write_atomically(out / "scores.parquet", write)


def _calibration_facts(card: Mapping[str, Any]) -> dict[str, Any]:
    return {k: card["calibration"][k] for k in ("n_rows", "n_videos", "method")}


def _write(path: Path, table: pa.Table) -> None:
    write_atomically(path, lambda p: pq.write_table(table, p))
