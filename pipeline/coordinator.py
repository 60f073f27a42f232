"""The coordinator of an extraction: hands out tasks, keeps what they report, follows each video."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from distributed import Client

from ..extractors.base import ExtractorError
from ..extractors.clips import clip_count
from ..extractors.video import ProbeRow, SeekMismatch, in_order
from . import quarantine
from .cluster import check_workers, open_client, share_of
from .engine import Engine
from .execute import TaskQueue, run_tasks
from .extractor_spec import ExtractorSpec
from .failures import describe_failure
from .journal import SHOWN, Journal, journal
from .planning import Estimate, VideoPlan, jobs_of, plan_videos
from .probe import Probed
from .progress import progress_bar
from .span_task import STOP, SpanJob, SpanResult, run_job
from .store import CannotWrite, FeatureStore, ShardRow, StoreError, row_of

INDEX_ROWS = 4096  # shards between two index parts: what a killed run leaves unlisted


class Coordinator:
    """One run.

    Args:
        specs:
            The extractors.
        stores:
            Their feature sets.
        cache:
            Root of the cache: journal, quarantine, weights.
        place:
            Where the feature sets are: the cache, or a folder that is deleted afterwards.
        engine:
            Where and how.
        when_done:
            See `extract`.

    Attributes:
        n_written: shards.
        errors: content id -> why a video failed.
        notes: content id -> what decoding noticed.
        damaged: content id -> frames that the decoder marked as damaged.
        waited: share of the time that devices had nothing to do.
        seconds: of the run.
        task_seconds: of all tasks.
        write_seconds: of durable writing in them.
    """

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
        if result.flags:
            self.notes.setdefault(content, set()).update(result.flags)
        if result.damaged:
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
            self._list_leftovers(content)
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

    def _list_leftovers(self, content: str) -> None:
        """A task that has failed says nothing of the shards that it wrote before."""
        for name, store in self._stores.items():
            for *_, path in store.shards(content):
                with suppress(OSError, KeyError, StoreError):
                    self._unlisted[name].append(row_of(path))

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
