"""Extract stage: spans of footage -> shards of features, each span decoded once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from .engine.progress import tell
from .engine.settings import PIXEL_SPAN_FRAMES, Engine
from .engine.sources import Upstream, source_recipes
from .registry import EXTRACTORS
from .store.errors import StoreError
from .store.failures import Failure, describe_failure
from .store.feature_store import FeatureStore
from .store.keys import key_of
from .store.locks import writing
from .store.probe_table import Probed


@dataclass
class Extracted:
    """What an extract run did.

    Attributes:
        stores: one for each extractor.
        rows: video_id -> probe row of the videos that are complete now.
        written: shards written by this run.
        devices: that have computed them.
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
    devices: set[str] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    damaged: dict[str, int] = field(default_factory=dict)
    waited: float | None = None
    seconds: float = 0.0
    task_seconds: float = 0.0
    write_seconds: float = 0.0

    def add(self, more: Extracted) -> None:
        """Add what another extraction did; a video that failed before is named once."""
        known = {failure.video_id for failure in self.failures}
        self.failures += [f for f in more.failures if f.video_id not in known]
        self.written += more.written
        self.devices |= more.devices


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
            Their files (see `probe`); those of other videos are left alone.
        specs:
            One or more extractors; each span is decoded once for all that read footage, and read
            once for all that read the same pixel source. Those that read a source come after it.
        cache:
            Root of the cache.
        engine:
            Where and how; None takes this process and its CPU.
        max_bytes:
            Refuse to write more than this; extractors of different sources are counted apart.
        store_root:
            Folder for the feature sets; None is the cache. For features that are deleted after use.
            A pixel source is looked for in the cache, then there.
        when_done:
            Called with the content id of each video of this run as soon as its features are
            complete. An error that it raises ends the run.

    Raises:
        ExtractorError: the estimate is above `max_bytes`, or an extractor that keeps pixels was
            given no such limit; or a boxes file has one name for several videos.
        ClusterError: the cluster cannot be used.
        CannotWrite: the disk is full or read-only; what is finished is kept.
    """
    cache = cache.absolute()  # workers may have another working directory
    place = cache if store_root is None else store_root.absolute()
    engine = engine or Engine()
    listed = {record.video_id for record in manifest.records}
    probed = replace(
        probed,
        rows={v: row for v, row in probed.rows.items() if v in listed},
        failures=[failure for failure in probed.failures if failure.video_id in listed],
    )
    check_videos(specs, probed.rows.values())
    run = _Chain(manifest, cache, place, engine, max_bytes, when_done or (lambda content: None))
    groups = _by_source(specs)
    for group in groups:
        probed = run.extract(probed, group, last=group is groups[-1])
    order = {store.name: store for store in run.done.stores}
    run.done.stores = [order[store.name] for store in stores_of(specs, place)]
    run.done.rows = dict(probed.rows)
    return run.done


def check_videos(specs: Sequence[ExtractorSpec], rows: Iterable[ProbeRow]) -> None:
    """Refuse videos that an extractor would take for one: copies of one content are one video.

    Raises:
        ExtractorError: there are some.
    """
    paths = list({row.content_id: row.path for row in rows}.values())
    for spec in specs:
        spec.make().check_videos(paths)


def _by_source(specs: Sequence[ExtractorSpec]) -> list[list[ExtractorSpec]]:
    """Extractors that read the same pixels together; those that read footage come first."""
    groups: dict[str, list[ExtractorSpec]] = {}
    for spec in sorted(specs, key=lambda spec: len(list(source_recipes(spec.recipe())))):
        source = "" if spec.source is None else key_of(spec.source.recipe)
        groups.setdefault(source, []).append(spec)
    return list(groups.values()) or [[]]


class _Chain:
    """Extractions of one call, one after another: one for each source of pixels."""

    def __init__(
        self,
        manifest: Manifest,
        cache: Path,
        place: Path,
        engine: Engine,
        max_bytes: int | None,
        when_done: Callable[[str], None],
    ) -> None:
        self._expected = {r.video_id: r.expected_frames for r in manifest.records}
        self._cache, self._place = cache, place
        self._engine, self._max_bytes, self._when_done = engine, max_bytes, when_done
        self._early: set[str] = set()  # became whole before the last extraction
        self.done = Extracted([], {})

    def extract(self, probed: Probed, specs: Sequence[ExtractorSpec], *, last: bool) -> Probed:
        """Run extractors that read the same pixels; returns the videos that are complete."""
        cache, place = self._cache, self._place
        engine = engine_for(specs, self._engine)
        stores = stores_of(specs, place)
        barred = barred_by_quarantine(probed, cache, engine)
        if engine.retry_quarantined:
            for row in probed.rows.values():
                quarantine.release(cache, row.content_id)
        upstream = upstream_of(specs, probed, (cache, place))
        everything = plans_of(probed, barred, stores, engine, upstream)
        plans = [plan for plan in everything if any(plan.missing)]
        cost = estimate(plans, specs)
        check_size(cost, specs, self._max_bytes)
        note = self._when_done if last else self._early.add
        run = Coordinator(specs, stores, cache, place, engine, note)
        errors: dict[str, BaseException] = {
            **_damaged_before(specs, stores, probed.rows.values(), plans),
            **barred,
            **{plan.row.content_id: plan.error for plan in everything if plan.error},
        }
        failed = [*probed.failures, *_failed(probed, errors, specs)]
        if plans:
            _run(run, stores, plans, cost, probed, failed)
        else:
            for store in stores:
                if store.root.is_dir():
                    store.create()  # a spec.json that is damaged, where all shards are there
            if failed:
                run.note(failed)
        self._add(run, stores)
        complete = self._judge(run, probed, {**errors, **run.errors}, specs)
        if last:
            self._compare_lengths(complete)
            for content in {row.content_id for row in complete.rows.values()} & self._early:
                if content not in {plan.row.content_id for plan in plans}:
                    self._when_done(content)
        return complete

    def _add(self, run: Coordinator, stores: Sequence[FeatureStore]) -> None:
        done = self.done
        done.stores += stores
        done.written += run.n_written
        done.devices |= run.devices
        done.task_seconds += run.task_seconds
        done.write_seconds += run.write_seconds
        done.seconds += run.seconds
        if run.waited is not None:
            done.waited = run.waited

    def _judge(
        self,
        run: Coordinator,
        probed: Probed,
        errors: Mapping[str, BaseException],
        specs: Sequence[ExtractorSpec],
    ) -> Probed:
        """Note the failures; returns the videos that are complete."""
        done = self.done
        complete: dict[str, ProbeRow] = {}
        failed = _failed(probed, errors, specs)
        done.failures += failed
        ids = {failure.video_id for failure in failed}
        for video_id, row in probed.rows.items():
            content = row.content_id
            if video_id not in ids:
                complete[video_id] = row
                if run.notes.get(content):
                    done.notes[video_id] = tuple(sorted(run.notes[content]))
                if run.damaged.get(content):
                    done.damaged[video_id] = run.damaged[content]
        return replace(probed, rows=complete)

    def _compare_lengths(self, probed: Probed) -> None:
        for video_id, row in probed.rows.items():
            n, known = self._expected[video_id], row.n_frames
            if n is not None and n != known:
                tell(
                    f"{video_id}: the manifest expects {n} frames, the file has {known}",
                    style="yellow",
                )


def _failed(
    probed: Probed, errors: Mapping[str, BaseException], specs: Sequence[ExtractorSpec]
) -> list[Failure]:
    """The videos without footage, and those whose contents have errors."""
    no_footage = NoFootage("no footage: import features, or build the manifest with footage")
    found = []
    for video_id, row in probed.rows.items():
        if row.kind == "features" and specs:
            found.append(describe_failure(video_id, "extract", no_footage))
        elif (error := errors.get(row.content_id)) is not None:
            found.append(describe_failure(video_id, "extract", error))
    return found


def _run(
    run: Coordinator,
    stores: Sequence[FeatureStore],
    plans: Sequence[VideoPlan],
    cost: Estimate,
    probed: Probed,
    failed: Sequence[Failure],
) -> None:
    """Run the plans; what is written is listed also where a feature set was deleted meanwhile.

    Raises:
        StoreError: one was.
    """
    ids: dict[str, list[str]] = {}
    for video_id, row in probed.rows.items():
        ids.setdefault(row.content_id, []).append(video_id)
    with writing([store.root for store in stores]):
        for store in stores:
            store.create()
        try:
            run.go(plans, cost, ids, failed)
        finally:
            gone = [store for store in stores if not store.is_there()]
            for store in gone:
                store.create()
    if gone:
        names = ", ".join(store.name for store in gone)
        raise StoreError(f"{names} was deleted while this run wrote to it: run it again")


def upstream_of(
    specs: Sequence[ExtractorSpec], probed: Probed, roots: Sequence[Path]
) -> Upstream | None:
    """What the pixel source of some extractors holds of the videos; None where they read footage.

    Args:
        specs:
            Extractors that share one source.
        probed:
            The videos.
        roots:
            Where its shards may lie.
    """
    source = specs[0].source if specs else None
    if source is None:
        return None
    contents = [row.content_id for row in probed.rows.values() if row.kind != "features"]
    return Upstream(source, roots, contents, [spec.clip_rule() for spec in specs])


def check_size(cost: Estimate, specs: Sequence[ExtractorSpec], max_bytes: int | None) -> None:
    """Refuse a run that would write too much, before anything is written.

    Raises:
        ExtractorError: it would; or pixels are to be kept and no limit was given.
    """
    pixels = [spec.name for spec in specs if keeps_pixels(spec)]
    if pixels and max_bytes is None and cost.bytes:
        raise ExtractorError(
            f"{', '.join(pixels)} keeps pixels: about {cost.bytes:,} bytes. To confirm, say "
            f"--max-bytes {cost.bytes}"
        )
    if max_bytes is not None and cost.bytes > max_bytes:
        raise ExtractorError(
            f"this run would write about {cost.bytes:,} bytes, more than --max-bytes {max_bytes:,}"
        )


def keeps_pixels(spec: ExtractorSpec) -> bool:
    """Whether what an extractor stores is so large that the user must allow it."""
    kind = EXTRACTORS[spec.name]
    return kind.keeps_pixels_with(kind.Config.model_validate(spec.config))


def engine_for(specs: Sequence[ExtractorSpec], engine: Engine) -> Engine:
    """The engine with spans of a length that suits all extractors."""
    if not any(keeps_pixels(spec) for spec in specs):
        return engine
    return engine.model_copy(update={"span_frames": min(engine.span_frames, PIXEL_SPAN_FRAMES)})


def plans_of(
    probed: Probed,
    barred: Collection[str],
    stores: Sequence[FeatureStore],
    engine: Engine,
    upstream: Upstream | None = None,
) -> list[VideoPlan]:
    """What a run has to do, without the videos in quarantine."""
    usable = {v: row for v, row in probed.rows.items() if row.content_id not in barred}
    return plan_videos(Probed(usable), stores, engine.span_frames, upstream)


def barred_by_quarantine(probed: Probed, cache: Path, engine: Engine) -> dict[str, Exception]:
    """content id -> why the video is not opened."""
    if engine.retry_quarantined:
        return {}
    known = quarantine.barred(cache)
    contents = {row.content_id for row in probed.rows.values()}
    found = {content: known.get(content) for content in contents}
    return {content: entry.refusal() for content, entry in found.items() if entry is not None}


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
