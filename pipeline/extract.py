"""Extract stage: spans of footage -> shards of features, each span decoded once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc

from ..data_manifests.record import Manifest
from ..extractors.errors import ExtractorError
from ..extractors.footage.errors import CorruptFrames, NoFootage
from ..extractors.footage.video import ProbeRow
from .engine import quarantine
from .engine.coordinator import Coordinator
from .engine.extractor_spec import ExtractorSpec, stores_of
from .engine.planning import Estimate, VideoPlan, estimate, plan_videos
from .engine.progress import console
from .engine.settings import PIXEL_SPAN_FRAMES, Engine
from .registry import EXTRACTORS
from .store.failures import Failure, describe_failure
from .store.feature_store import FeatureStore
from .store.probe_table import Probed


@dataclass
class Extracted:
    """What an extract run did.

    Attributes:
        stores: one for each extractor.
        rows: video_id -> probe row of the videos that are complete now.
        written: shards written by this run.
        failures: videos that failed.
        notes: video_id -> what decoding noticed.
        damaged: video_id -> frames that the decoder marked as damaged, where there are any.
        waited: share of the time that devices had nothing to do; None without a network.
        seconds: of the run.
        task_seconds: of all tasks together.
        write_seconds: of durable writing, in all tasks together.
    """

    stores: list[FeatureStore]
    rows: dict[str, ProbeRow]
    written: int = 0
    failures: list[Failure] = field(default_factory=list)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    damaged: dict[str, int] = field(default_factory=dict)
    waited: float | None = None
    seconds: float = 0.0
    task_seconds: float = 0.0
    write_seconds: float = 0.0


def extract_features(
    manifest: Manifest,
    probed: Probed,
    specs: Sequence[ExtractorSpec],
    cache: Path,
    *,
    engine: Engine | None = None,
    max_bytes: int | None = None,
    when_done: Callable[[str], None] | None = None,
    store_root: Path | None = None,
) -> Extracted:
    """Compute what is missing; one failing video never stops the run.

    Args:
        manifest:
            The videos.
        probed:
            Their files (see `probe`).
        specs:
            One or more extractors; each span is decoded once for all of them.
        cache:
            Root of the cache.
        engine:
            Where and how; None takes this process and its CPU.
        max_bytes:
            Refuse to write more than this.
        store_root:
            Folder for the feature sets; None is the cache. For features that are deleted after use.
        when_done:
            Called with the content id of each video of this run as soon as its features are
            complete. An error that it raises ends the run.

    Raises:
        ExtractorError: the estimate is above `max_bytes`, or an extractor that keeps pixels was
            given no such limit.
        ClusterError: the cluster cannot be used.
        CannotWrite: the disk is full or read-only; what is finished is kept.
    """
    cache = cache.absolute()  # workers may have another working directory
    store_root = cache if store_root is None else store_root.absolute()
    engine = engine_for(specs, engine or Engine())
    stores = stores_of(specs, store_root)
    barred = barred_by_quarantine(probed, cache, engine)
    if engine.retry_quarantined:
        for row in probed.rows.values():
            quarantine.release(cache, row.content_id)
    plans = plans_of(probed, barred, stores, engine)
    cost = estimate(plans, specs)
    check_size(cost, specs, max_bytes)
    run = Coordinator(specs, stores, cache, store_root, engine, when_done)
    if plans:
        for store in stores:
            store.create()
        run.go(plans, cost)
    before = _damaged_before(specs, stores, probed.rows.values(), plans)
    done = Extracted(stores, {})
    done.written = run.n_written
    done.task_seconds, done.write_seconds = run.task_seconds, run.write_seconds
    done.waited, done.seconds = run.waited, run.seconds
    errors = {**before, **barred, **run.errors}
    no_footage = NoFootage("no footage: import features, or build the manifest with footage")
    for video_id, probe_row in probed.rows.items():
        content = probe_row.content_id
        if probe_row.kind == "features" and specs:
            done.failures.append(describe_failure(video_id, "extract", no_footage))
        elif content in errors:
            done.failures.append(describe_failure(video_id, "extract", errors[content]))
        else:
            done.rows[video_id] = probe_row
            if run.notes.get(content):
                done.notes[video_id] = tuple(sorted(run.notes[content]))
            if run.damaged.get(content):
                done.damaged[video_id] = run.damaged[content]
    expected = {r.video_id: r.expected_frames for r in manifest.records}
    for video_id, probe_row in done.rows.items():
        n, known = expected[video_id], probe_row.n_frames
        if n is not None and n != known:
            console.print(
                f"[yellow]{video_id}: the manifest expects {n} frames, the file has {known}[/]"
            )
    return done


def check_size(cost: Estimate, specs: Sequence[ExtractorSpec], max_bytes: int | None) -> None:
    """Refuse a run that would write too much, before anything is written.

    Raises:
        ExtractorError: it would; or pixels are to be kept and no limit was given.
    """
    pixels = [spec.name for spec in specs if EXTRACTORS[spec.name].keeps_pixels]
    if pixels and max_bytes is None and cost.bytes:
        raise ExtractorError(
            f"{', '.join(pixels)} keeps pixels: about {cost.bytes:,} bytes. To confirm, say "
            f"--max-bytes {cost.bytes}"
        )
    if max_bytes is not None and cost.bytes > max_bytes:
        raise ExtractorError(
            f"this run would write about {cost.bytes:,} bytes, more than --max-bytes {max_bytes:,}"
        )


def engine_for(specs: Sequence[ExtractorSpec], engine: Engine) -> Engine:
    """The engine with spans of a length that suits all extractors."""
    if not any(EXTRACTORS[spec.name].keeps_pixels for spec in specs):
        return engine
    return engine.model_copy(update={"span_frames": min(engine.span_frames, PIXEL_SPAN_FRAMES)})


def plans_of(
    probed: Probed, barred: Collection[str], stores: Sequence[FeatureStore], engine: Engine
) -> list[VideoPlan]:
    """What a run has to do, without the videos in quarantine."""
    usable = {v: row for v, row in probed.rows.items() if row.content_id not in barred}
    return plan_videos(Probed(usable), stores, engine.span_frames)


def barred_by_quarantine(probed: Probed, cache: Path, engine: Engine) -> dict[str, Exception]:
    """content id -> why the video is not opened."""
    if engine.retry_quarantined:
        return {}
    known = quarantine.entries(cache)
    contents = {row.content_id for row in probed.rows.values()} & known.keys()
    return {content: known[content].refusal() for content in contents}


def _damaged_before(
    specs: Sequence[ExtractorSpec],
    stores: Sequence[FeatureStore],
    rows: Iterable[ProbeRow],
    plans: Sequence[VideoPlan],
) -> dict[str, Exception]:
    """Damaged videos that an earlier run has kept, where this run refuses them."""
    planned = {plan.row.content_id for plan in plans}
    paths = {row.content_id: row.path for row in rows if row.content_id not in planned}
    errors: dict[str, Exception] = {}
    for spec, store in zip(specs, stores, strict=True):
        if spec.on_corrupt == "fail" and paths:
            index = store.index(paths)
            damaged = index.filter(pc.greater(index["damaged"], 0))
            for content in damaged["content_id"].to_pylist():
                errors[content] = CorruptFrames(
                    f"{paths[content]}: frames are damaged; --on-corrupt skip leaves out their "
                    "clips, keep takes them as they are"
                )
    return errors
