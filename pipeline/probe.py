"""Probe stage: every file of a manifest as it really is; known files are not opened again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data_manifests.record import Manifest, VideoRecord
from ..extractors.footage.errors import DecodeError
from ..extractors.footage.guarded import end_idle, guarded_probe
from ..extractors.footage.stamp import stamp_of
from ..extractors.footage.video import ProbeRow
from .engine import quarantine
from .engine.cluster import open_client
from .engine.execute import run_tasks
from .engine.progress import progress_bar
from .engine.settings import ProbeOptions, cpu_count
from .store.failures import Failure, describe_failure
from .store.keys import canonical_json
from .store.probe_table import PART_ROWS, Probed, load_probes, save_probes
from .store.sampled_ids import SampledIds

PROBE_VERSION = 3


@dataclass(frozen=True)
class ProbeTask:
    """One file to probe."""

    video_id: str
    path: str
    signature: str
    options: ProbeOptions
    stamp: str


def probe_files(
    manifest: Manifest,
    cache: Path,
    options: ProbeOptions | None = None,
    *,
    threads: int | None = None,
) -> Probed:
    """Probe the files of a manifest. Those that have not changed since are not opened again.

    A record without footage gets a row of kind "features", made from the manifest alone. What could
    not be read when the manifest was made is a failure too: there may be videos in it.

    Args:
        manifest:
            The videos.
        cache:
            Root of the cache; `probe/*.parquet` is read and added to.
        options:
            How files are opened; None takes the defaults.
        threads:
            Files at once; None takes one for each core.
    """
    options = options or ProbeOptions()
    rows, failures, tasks, ids = _known_and_new(manifest, cache, options)
    n_fresh = 0
    if tasks:
        n_fresh = _probe_new(tasks, cache, options, threads or cpu_count(), rows, failures, ids)
        end_idle()  # extraction needs fewer processes
    order = {r.video_id: i for i, r in enumerate(manifest.records)}
    failures.sort(key=lambda failure: order[failure.video_id])
    unread = [
        Failure("*", "list", "Unread", f"{Path(manifest.root) / path}: {reason}")
        for path, reason in manifest.unread
    ]
    return Probed(
        dict(sorted(rows.items(), key=lambda item: order[item[0]])), [*unread, *failures], n_fresh
    )


def _known_and_new(
    manifest: Manifest, cache: Path, options: ProbeOptions
) -> tuple[dict[str, ProbeRow], list[Failure], dict[str, list[ProbeTask]], SampledIds]:
    """What the cache and the manifest tell, and what has to be opened.

    Returns:
        video_id -> row; refused files; signature -> tasks of the videos that share one file; which
        file has which id.
    """
    known = load_probes(cache)
    ids = SampledIds(cache, known.values())
    barred = None if options.retry_quarantined else quarantine.barred(cache)
    rows: dict[str, ProbeRow] = {}
    failures: list[Failure] = []
    tasks: dict[str, list[ProbeTask]] = {}
    for record in manifest.records:
        if record.path is None:
            rows[record.video_id] = _without_footage(manifest.dataset, record, options.image_fps)
            continue
        try:
            path = manifest.resolve(record.path)
            task = _task(path, record.video_id, options)
            if barred is not None and (entry := barred.get(task.signature)) is not None:
                raise entry.refusal()
            row = known.get((task.signature, task.stamp))
            if row is not None:
                # The limits of this run may be stricter than those the file was probed with.
                options.limits.check_file(path)
                options.limits.check(row)
        except (OSError, ValueError, DecodeError) as error:
            failures.append(describe_failure(record.video_id, "probe", error))
            continue
        if row is not None:
            rows[record.video_id] = ids.settled(row)
        else:
            tasks.setdefault(task.signature, []).append(task)
    return rows, failures, tasks, ids


def _probe_new(
    tasks: Mapping[str, Sequence[ProbeTask]],
    cache: Path,
    options: ProbeOptions,
    threads: int,
    rows: dict[str, ProbeRow],
    failures: list[Failure],
    ids: SampledIds,
) -> int:
    """Open files; adds to `rows` and `failures`. Returns how many files were probed.

    Rows are saved in parts on the way, so that a killed run does not open all files again.
    """
    fresh: list[tuple[str, ProbeRow]] = []
    n_fresh = 0
    first = [group[0] for group in tasks.values()]
    order = {signature: i for i, signature in enumerate(tasks)}

    def save() -> None:
        # In the order of the manifest: of two files with one id, the first keeps it.
        fresh.sort(key=lambda item: order[item[0]])
        settled = [(signature, ids.settled(row)) for signature, row in fresh]
        rows.update({t.video_id: row for signature, row in settled for t in tasks[signature]})
        save_probes(cache, settled)
        fresh.clear()

    with (
        open_client(threads=threads) as client,
        progress_bar("probe", len(first)) as advance,
    ):
        for outcome in run_tasks(client, _probe_one, first):
            task, row = outcome.task, outcome.value
            group = tasks[task.signature]
            if row is None:
                assert outcome.error is not None
                if quarantine.belongs_there(outcome.error):
                    quarantine.add(cache, task.signature, task.path, outcome.error)
                failures += [describe_failure(t.video_id, "probe", outcome.error) for t in group]
            else:
                fresh.append((task.signature, row))
                n_fresh += 1
                if len(fresh) >= PART_ROWS:
                    save()
                if options.retry_quarantined:
                    quarantine.release(cache, task.signature)
            advance(1)
    if fresh:
        save()
    return n_fresh


def _probe_one(task: ProbeTask) -> ProbeRow:
    return guarded_probe(
        Path(task.path),
        hash_mode=task.options.hash_mode,
        decode=task.options.decode,
        image_fps=task.options.image_fps,
        limits=task.options.limits,
    )


def _without_footage(dataset: str, record: VideoRecord, fps: float) -> ProbeRow:
    """The row of a video without footage, as its manifest states it.

    Its content id is made of the names of data set and video, so that all feature sets imported for
    one manifest belong together.
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


def _task(path: Path, video_id: str, options: ProbeOptions) -> ProbeTask:
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f"{path}: a link that leads in a circle; mend or delete it")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: is the manifest's root right?")
    stats = [path.stat()]
    if path.is_dir():
        stats = [_stat(p) for p in sorted(path.iterdir())]
    size = sum(s.st_size for s in stats)
    modified = max((s.st_mtime_ns for s in stats), default=0)
    rate = f"|{options.image_fps}" if path.is_dir() else ""
    how = f"{PROBE_VERSION}|{options.hash_mode}|{int(options.decode)}{rate}"
    signature = f"{how}|{len(stats)}|{size}|{modified}|{path}"
    return ProbeTask(video_id, str(path), signature, options, stamp_of(path))


def _stat(path: Path) -> os.stat_result:
    """Of an entry of a folder; of the link itself where it leads nowhere: it may be no image."""
    return path.stat() if path.exists() else path.lstat()
