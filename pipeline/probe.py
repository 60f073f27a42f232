"""Probe stage: every file of a manifest as it really is, remembered by path, size and time."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..data_manifests.record import Manifest, VideoRecord
from ..extractors.footage.decode_worker import end_idle, guarded_probe
from ..extractors.footage.identity import HashMode
from ..extractors.footage.limits import DecodeLimits
from ..extractors.footage.video import DecodeError, ProbeRow
from .engine import quarantine
from .engine.cluster import open_client
from .engine.execute import run_tasks
from .engine.progress import progress_bar
from .engine.settings import cpu_count
from .store.failures import Failure, describe_failure
from .store.feature_store import write_table
from .store.keys import canonical_json

PROBE_VERSION = 2
MAX_PARTS = 64
PART_ROWS = 1000  # files between two parts: what a killed run has to open again

_SCHEMA = pa.schema(
    [
        ("signature", pa.string()),
        ("path", pa.string()),
        ("content_id", pa.string()),
        ("kind", pa.string()),
        ("n_frames", pa.int64()),
        ("decoded", pa.bool_()),
        ("fps", pa.float64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("rotation", pa.int64()),
        ("duration", pa.float64()),
        ("codec", pa.string()),
        ("container", pa.string()),
        ("damaged", pa.int64()),
        ("flags", pa.list_(pa.string())),
        ("key_index", pa.list_(pa.int64())),
        ("key_pts", pa.list_(pa.int64())),
        ("key_dts", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class ProbeTask:
    """One file to probe."""

    video_id: str
    path: str
    signature: str
    hash_mode: HashMode
    decode: bool
    image_fps: float
    limits: DecodeLimits


@dataclass(frozen=True)
class Probed:
    """What the files of a manifest are.

    Attributes:
        rows: video_id -> row; videos that failed are absent.
        failures: why.
        fresh: how many files were really opened this time.
    """

    rows: dict[str, ProbeRow]
    failures: list[Failure] = field(default_factory=list)
    fresh: int = 0


def probe(
    manifest: Manifest,
    cache: Path,
    *,
    hash_mode: HashMode = "sampled",
    decode: bool = False,
    image_fps: float = 25.0,
    limits: DecodeLimits | None = None,
    retry_quarantined: bool = False,
    threads: int | None = None,
) -> Probed:
    """Probe the files of a manifest; those seen before at the same size and time are not opened.

    A record without footage gets a row of kind "features", made from the manifest alone.

    Args:
        manifest:
            The videos.
        cache:
            Root of the cache; `probe/*.parquet` is read and added to.
        hash_mode:
            "sampled" reads a few MiB of each file, "full" all of it.
        decode:
            Decode everything: exact frame counts and corrupt frames.
        image_fps:
            The nominal rate of image folders, and of videos without footage.
        limits:
            What is refused; None takes the defaults.
        retry_quarantined:
            Open files again that have taken a process down.
        threads:
            Files at once.
    """
    limits = limits or DecodeLimits()
    known = _load(cache)
    barred = {} if retry_quarantined else quarantine.entries(cache)
    rows: dict[str, ProbeRow] = {}
    failures: list[Failure] = []
    tasks: dict[str, list[ProbeTask]] = {}
    for record in manifest.records:
        if record.path is None:
            rows[record.video_id] = _without_footage(manifest.dataset, record, image_fps)
            continue
        try:
            path = manifest.resolve(record.path)
            task = _task(path, record.video_id, hash_mode, decode, image_fps, limits)
            if task.signature in barred:
                raise barred[task.signature].refusal()
            if task.signature in known:
                limits.check_file(path)
                limits.check(known[task.signature])
        except (OSError, ValueError, DecodeError) as error:
            failures.append(describe_failure(record.video_id, "probe", error))
            continue
        if task.signature in known:
            rows[record.video_id] = known[task.signature]
        else:
            tasks.setdefault(task.signature, []).append(task)
    fresh: list[tuple[str, ProbeRow]] = []
    opened = 0
    if tasks:
        first = [group[0] for group in tasks.values()]
        with (
            open_client(threads=threads or cpu_count()) as client,
            progress_bar("probe", len(first)) as advance,
        ):
            for outcome in run_tasks(client, _probe_one, first):
                group = tasks[outcome.task.signature]
                if outcome.value is None:
                    assert outcome.error is not None
                    if quarantine.belongs_there(outcome.error):
                        task = outcome.task
                        quarantine.add(cache, task.signature, task.path, outcome.error)
                    failures += [
                        describe_failure(t.video_id, "probe", outcome.error) for t in group
                    ]
                else:
                    rows |= {t.video_id: outcome.value for t in group}
                    fresh.append((outcome.task.signature, outcome.value))
                    opened += 1
                    if len(fresh) >= PART_ROWS:
                        _save(cache, fresh)
                        fresh = []
                    if retry_quarantined:
                        quarantine.release(cache, outcome.task.signature)
                advance(1)
        if fresh:
            _save(cache, fresh)
        end_idle()  # extraction needs fewer
    order = {r.video_id: i for i, r in enumerate(manifest.records)}
    return Probed(
        dict(sorted(rows.items(), key=lambda item: order[item[0]])),
        sorted(failures, key=lambda f: order[f.video_id]),
        opened,
    )


def duplicates(probed: Probed) -> dict[str, list[str]]:
    """content_id -> the video ids that share it, where there is more than one path."""
    by_content: dict[str, dict[str, list[str]]] = {}
    for video_id, row in probed.rows.items():
        by_content.setdefault(row.content_id, {}).setdefault(row.path, []).append(video_id)
    return {
        content: [v for ids in paths.values() for v in ids]
        for content, paths in by_content.items()
        if len(paths) > 1
    }


def _probe_one(task: ProbeTask) -> ProbeRow:
    return guarded_probe(
        Path(task.path),
        hash_mode=task.hash_mode,
        decode=task.decode,
        image_fps=task.image_fps,
        limits=task.limits,
    )


def _without_footage(dataset: str, record: VideoRecord, fps: float) -> ProbeRow:
    """What a manifest says of a video whose features alone are at hand.

    Its identity is the data set's name and the video's: feature sets imported for one manifest
    belong together.
    """
    name = canonical_json([dataset, record.video_id])
    n_frames = record.expected_frames or 0
    return ProbeRow(
        path="",
        content_id="m1-" + hashlib.sha256(name.encode()).hexdigest()[:40],
        kind="features",
        n_frames=n_frames,
        decoded=False,
        fps=fps,
        height=0,
        width=0,
        rotation=0,
        duration=n_frames / fps,
        codec="",
        container="",
        flags=() if n_frames else ("length_unknown",),
    )


def _task(
    path: Path,
    video_id: str,
    hash_mode: HashMode,
    decode: bool,
    image_fps: float,
    limits: DecodeLimits,
) -> ProbeTask:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: is the manifest's root right?")
    stats = [path.stat()]
    if path.is_dir():
        stats = [p.stat() for p in sorted(path.iterdir())]
    size = sum(s.st_size for s in stats)
    modified = max((s.st_mtime_ns for s in stats), default=0)
    rate = f"|{image_fps}" if path.is_dir() else ""
    signature = f"{PROBE_VERSION}|{hash_mode}|{int(decode)}{rate}|{len(stats)}|{size}|{modified}|"
    return ProbeTask(
        video_id, str(path), signature + str(path), hash_mode, decode, image_fps, limits
    )


def _load(cache: Path) -> dict[str, ProbeRow]:
    rows: dict[str, ProbeRow] = {}
    for part in sorted((cache / "probe").glob("*.parquet")):
        try:
            table = pq.read_table(part, schema=_SCHEMA)
        except FileNotFoundError:
            continue  # another run has just folded the parts; at worst a file is probed again
        for values in table.to_pylist():
            signature = values.pop("signature")
            rows[signature] = _row(values)
    return rows


def _save(cache: Path, fresh: Sequence[tuple[str, ProbeRow]]) -> None:
    folder = cache / "probe"
    old = list(folder.glob("*.parquet"))
    rows = list(fresh)
    if len(old) >= MAX_PARTS:  # many small runs: fold the parts into one
        rows = list((_load(cache) | dict(fresh)).items())
    table = pa.Table.from_pylist([_values(s, r) for s, r in rows], schema=_SCHEMA)
    path = folder / f"{uuid.uuid4().hex}.parquet"
    write_table(path, table, compression="zstd")
    if len(old) >= MAX_PARTS:
        for part in old:
            part.unlink(missing_ok=True)


def _values(signature: str, row: ProbeRow) -> dict[str, Any]:
    values = row.to_json()
    index, pts, dts = values.pop("key_frames") or (None, None, None)
    return {**values, "signature": signature, "key_index": index, "key_pts": pts, "key_dts": dts}


def _row(values: dict[str, Any]) -> ProbeRow:
    keys = [values.pop(f"key_{name}") for name in ("index", "pts", "dts")]
    return ProbeRow.from_json({**values, "key_frames": None if keys[0] is None else keys})
