"""Extract stage: spans of footage -> shards of features, each span decoded once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow.compute as pc
from distributed import Client

from ..data_manifests.record import Manifest
from ..extractors import EXTRACTORS
from ..extractors.base import ExtractorError
from ..extractors.clips import clip_count
from ..extractors.video import CorruptFrames, NoFootage, ProbeRow, SeekMismatch, in_order
from . import quarantine
from .cluster import check_workers, open_client, share_of
from .engine import PIXEL_SPAN_FRAMES, Engine
from .execute import TaskQueue, run_tasks
from .extractor_spec import ExtractorSpec, stores_of
from .failures import Failure, describe_failure
from .journal import SHOWN, Journal, journal
from .planning import Estimate, VideoPlan, estimate, jobs_of, plan_videos
from .probe import Probed
from .progress import console, progress_bar
from .span_task import STOP, SpanJob, SpanResult, run_job
from .store import CannotWrite, FeatureStore, ShardRow, row_of

INDEX_ROWS = 4096  # shards between two index parts: what a killed run leaves unlisted


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


def extract(
    manifest: Manifest,
    probed: Probed,
    specs: Sequence[ExtractorSpec],
    cache: Path,
    *,
    engine: Engine | None = None,
    max_bytes: int | None = None,
    when_done: Callable[[str], None] | None = None,
    features: Path | None = None,
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
        features:
            Where the features are kept instead of the cache, for one who will not keep them.
        when_done:
            Called with the content id of each video of this run whose features have become whole,
            while others are still at work. An error that it raises ends the run.

    Raises:
        ExtractorError: the estimate is above `max_bytes`, or an extractor that keeps pixels was
            given no such limit.
        ClusterError: the cluster cannot be used.
        CannotWrite: the disk is full or read-only; what is finished is kept.
    """
    engine, place = engine or Engine(), features or cache
    stores = stores_of(specs, place)
    barred = _barred(probed, cache, engine)
    usable = {v: row for v, row in probed.rows.items() if row.content_id not in barred}
    if any(EXTRACTORS[spec.name].keeps_pixels for spec in specs):
        span_frames = min(engine.span_frames, PIXEL_SPAN_FRAMES)
        engine = engine.model_copy(update={"span_frames": span_frames})
    plans = plan_videos(Probed(usable), stores, engine.span_frames)
    cost = estimate(plans, specs)
    check_size(cost, specs, max_bytes)
    run = _Run(specs, stores, cache, place, engine, when_done)
    if plans:
        for store in stores:
            store.create()
        run.go(plans, cost)
    before = _damaged_before(specs, stores, usable.values(), plans)
    done = Extracted(stores, {})
    done.written = run.n_written
    done.task_seconds, done.write_seconds = run.task_seconds, run.write_seconds
    done.waited, done.seconds = run.waited, run.seconds
    errors = {**barred, **before, **run.errors}
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
        ExtractorError: it would; or pixels are to be kept and nobody has said how many.
    """
    pixels = [spec.name for spec in specs if EXTRACTORS[spec.name].keeps_pixels]
    if pixels and max_bytes is None and cost.bytes:
        raise ExtractorError(
            f"{', '.join(pixels)} keeps pixels: about {cost.bytes:,} bytes. Say that you mean it: "
            f"--max-bytes {cost.bytes}"
        )
    if max_bytes is not None and cost.bytes > max_bytes:
        raise ExtractorError(
            f"this run would write about {cost.bytes:,} bytes, more than --max-bytes {max_bytes:,}"
        )


def _barred(probed: Probed, cache: Path, engine: Engine) -> dict[str, Exception]:
    """content id -> why it is not opened."""
    known = quarantine.entries(cache)
    contents = {row.content_id for row in probed.rows.values()} & known.keys()
    if engine.retry_quarantined:
        for content in contents:
            quarantine.release(cache, content)
        return {}
    return {content: known[content].refusal() for content in contents}


def _damaged_before(
    specs: Sequence[ExtractorSpec],
    stores: Sequence[FeatureStore],
    rows: Iterable[ProbeRow],
    plans: Sequence[VideoPlan],
) -> dict[str, Exception]:
    """Videos that an earlier run has kept although they are damaged, where that is refused now."""
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


class _Run:
    """The coordinator of one run: hands out tasks and keeps what they report."""

    def __init__(
        self,
        specs: Sequence[ExtractorSpec],
        stores: Sequence[FeatureStore],
        cache: Path,
        place: Path,
        engine: Engine,
        when_done: Callable[[str], None] | None,
    ) -> None:
        self._specs = shared_weights(specs, cache) if engine.scheduler else list(specs)
        self._stores = {store.name: store for store in stores}
        self._cache, self._place = cache, place
        self._engine = engine
        self._when_done = when_done or (lambda content: None)
        self._jobs_of = partial(
            jobs_of, specs=self._specs, cache=place, engine=engine, runtime=engine.runtime()
        )
        self._queue: TaskQueue[SpanJob] = TaskQueue()
        self._left: dict[str, int] = {}  # tasks that are not back yet, of videos at work
        self._rows: dict[str, ProbeRow] = {}  # of videos at work
        self._seek_failed: set[str] = set()
        self._unlisted: dict[str, list[ShardRow]] = {name: [] for name in self._stores}
        self.n_written = 0
        self.errors: dict[str, BaseException] = {}
        self.notes: dict[str, set[str]] = {}
        self.damaged: dict[str, int] = {}
        self._with_rows: set[tuple[str, str]] = set()  # (content, feature set)
        self._lengths: dict[str, int] = {}
        self.waited: float | None = None
        self.seconds = 0.0
        self.task_seconds = 0.0
        self.write_seconds = 0.0

    def go(self, plans: Sequence[VideoPlan], cost: Estimate) -> None:
        """Do all of it."""
        STOP.clear()
        totals = {
            "videos": len(plans),
            "spans": sum(len(group) for plan in plans for group in plan.groups()),
            "frames": cost.frames,
        }
        command = " ".join(["vadpipe", *sys.argv[1:]]) if sys.argv[0].endswith("vadpipe") else ""
        self._queue = TaskQueue(self._all_jobs(plans))
        try:
            with (
                journal(self._cache, command or "extract", totals) as kept,
                open_client(self._engine) as client,
                progress_bar("extract", cost.frames) as advance,
            ):
                if self._engine.scheduler is not None:
                    check_workers(client, self._place)
                try:
                    self._collect(client, kept, advance)
                finally:  # before the client closes, which waits for threads at work
                    STOP.set()
                self.seconds, self.waited = kept.state.seconds, kept.state.waited
        finally:
            for name in self._stores:
                self._list(name)
                self._stores[name].fold_index()

    def _all_jobs(self, plans: Sequence[VideoPlan]) -> Iterator[SpanJob]:
        """Made when they are wanted: an archive has more spans than fit into memory."""
        for plan in plans:
            yield from self._begin(plan)

    def _begin(self, plan: VideoPlan) -> Iterator[SpanJob]:
        self._left[plan.row.content_id] = len(plan.groups())
        self._rows[plan.row.content_id] = plan.row
        yield from self._jobs_of(plan)

    def _collect(self, client: Client, kept: Journal, advance: Callable[[float], None]) -> None:
        resources = share_of(self._engine)
        tasks = run_tasks(
            client, run_job, self._queue, resources=resources, group=lambda job: job.row.content_id
        )
        with closing(tasks) as outcomes:
            for outcome in outcomes:
                job, content = outcome.task, outcome.task.row.content_id
                if isinstance(outcome.error, CannotWrite):
                    raise outcome.error
                if outcome.error is not None:
                    self._note_error(job, outcome.error)
                elif outcome.value is not None:
                    self._note(content, outcome.value, kept)
                advance(job.frames)
                self._left[content] -= 1
                ended = self._left[content] == 0 and self._end(content, kept)
                kept.update(
                    videos_done=kept.state.videos_done + ended,
                    spans_done=kept.state.spans_done + len(job.spans),
                    frames_done=kept.state.frames_done + job.frames,
                    shards=self.n_written,
                    running=tuple(Path(r.path).name for r in islice(self._rows.values(), SHOWN)),
                )

    def _note(self, content: str, result: SpanResult, kept: Journal) -> None:
        for name, row in result.written:
            self._unlisted[name].append(row)
            if row.rows:
                self._with_rows.add((content, name))
            if len(self._unlisted[name]) >= INDEX_ROWS:
                self._list(name)
        self.n_written += len(result.written)
        if result.n_frames is not None:
            self._lengths[content] = result.n_frames
        self.task_seconds += result.seconds
        self.write_seconds += result.write_seconds
        self.notes.setdefault(content, set()).update(result.flags)
        self.damaged[content] = self.damaged.get(content, 0) + result.damaged
        kept.note_usage(result.before, result.after)

    def _note_error(self, job: SpanJob, error: BaseException) -> None:
        content = job.row.content_id
        if isinstance(error, SeekMismatch) and not job.row.sequential_only:
            self._seek_failed.add(content)
            return
        self.errors[content] = error
        if quarantine.belongs_there(error):
            quarantine.add(self._cache, content, job.row.path, error)

    def _end(self, content: str, kept: Journal) -> bool:
        """All tasks of a video are back; False where it has to be done once more."""
        row = self._rows.pop(content)
        del self._left[content]
        if content in self._seek_failed and content not in self.errors:
            # Every span again: numbers that were found by seeking may be wrong too.
            self._seek_failed.discard(content)
            self.notes.pop(content, None)
            self.damaged.pop(content, None)
            for store in self._stores.values():
                store.remove_video(content)
            again = Probed({content: in_order(row)})
            stores = list(self._stores.values())
            for plan in plan_videos(again, stores, self._engine.span_frames):
                for job in self._begin(plan):
                    self._queue.add(job)
                    kept.update(
                        spans=kept.state.spans + len(job.spans),
                        frames=kept.state.frames + job.frames,
                    )
            return False
        if content not in self.errors:
            self._refuse_empty(content)
        if content in self.errors:
            kept.fail(describe_failure(Path(row.path).name, "extract", self.errors[content]))
        else:
            self._when_done(content)
        return True

    def _refuse_empty(self, content: str) -> None:
        """A video without one row is a failure, whatever the spans."""
        frames = self._lengths.pop(content, 0)
        for spec, store in zip(self._specs, self._stores.values(), strict=True):
            if (content, store.name) in self._with_rows or any(
                row_of(path).rows for *_, path in store.shards(content)
            ):
                self._with_rows.discard((content, store.name))
                continue
            rule = spec.make().clip_rule
            self.errors[content] = ExtractorError(
                f"all clips of the video have damaged frames ({self.damaged.get(content, 0)} of "
                f"{frames}): take --on-corrupt keep, or leave it out"
                if clip_count(frames, rule)
                else f"the video has {frames} frames, fewer than one clip of {rule.length}; "
                "--set tail=loop repeats frames to fill it"
            )
            store.remove_video(content)
            self._unlisted[store.name] = [
                row for row in self._unlisted[store.name] if row.content_id != content
            ]

    def _list(self, name: str) -> None:
        self._stores[name].add_index_part(self._unlisted[name])
        self._unlisted[name] = []


def shared_weights(specs: Sequence[ExtractorSpec], cache: Path) -> list[ExtractorSpec]:
    """The specs with their weights in the cache, which all workers of a cluster see."""
    moved = []
    for spec in specs:
        weights = spec.weights
        if weights is not None and weights.path is not None:
            path = cache / "weights" / weights.path.name
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(f".{path.name}.tmp")
                shutil.copyfile(weights.path, part)
                part.replace(path)
            spec = replace(spec, weights=replace(weights, path=path.absolute()))
        moved.append(spec)
    return moved
