"""The coordinator of an extraction: hands out tasks, keeps what they report, follows each video."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from distributed import Client

from ...data_manifests.atomic import CannotWrite, write_atomically
from ...extractors.base import TUNING
from ...extractors.clips import clip_count
from ...extractors.errors import ExtractorError
from ...extractors.footage.errors import SeekMismatch
from ...extractors.footage.video import ProbeRow, in_order
from ..store.failures import Failure, describe_failure
from ..store.feature_store import FeatureStore
from ..store.probe_table import Probed
from ..store.shard import UNREADABLE, ShardRow, row_of
from . import quarantine
from .cluster import check_script, check_workers, open_client, share_of
from .execute import TaskQueue, run_tasks
from .extractor_spec import ExtractorSpec
from .frames_read import FramesRead, following
from .journal import SHOWN, Journal, journal
from .planning import Estimate, VideoPlan, jobs_of, plan_videos
from .progress import progress_bar, tell
from .run_end import end_run, forget_run, new_run
from .settings import Engine
from .span_task import SpanJob, SpanResult, run_job

INDEX_ROWS = 4096  # shards between two index parts: what a killed run leaves unlisted


@dataclass
class _Video:
    """A video with tasks in flight, and what they have reported so far.

    Attributes:
        row: as probed.
        left: tasks without an outcome yet.
        error: why it failed.
        seek_failed: the whole video has to be decoded again, in order.
        shards: (feature set, shard) pairs.
        n_frames: where its end was reached.
        flags: what decoding noticed.
        damaged: frames that the decoder marked as damaged.
    """

    row: ProbeRow
    left: int
    error: BaseException | None = None
    seek_failed: bool = False
    shards: list[tuple[str, ShardRow]] = field(default_factory=list)
    n_frames: int = 0
    flags: set[str] = field(default_factory=set)
    damaged: int = 0


class Coordinator:
    """One run of an extraction.

    Args:
        specs:
            The extractors.
        stores:
            Their feature sets.
        cache:
            Root of the cache: journal, quarantine, weights.
        store_root:
            Where the feature sets are: the cache, or a folder that is deleted afterwards.
        engine:
            Where and how networks run.
        when_done:
            See `extract_features`.

    Attributes:
        n_written: shards.
        devices: that have computed them.
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
        store_root: Path,
        engine: Engine,
        when_done: Callable[[str], None] | None,
    ) -> None:
        self._specs = shared_weights(specs, cache) if engine.scheduler else list(specs)
        self._stores = {store.name: store for store in stores}
        self._cache, self._store_root = cache, store_root
        self._engine = engine
        self._when_done = when_done or (lambda content: None)
        self._run = new_run()
        self._jobs_of = partial(
            jobs_of,
            specs=self._specs,
            store_root=store_root,
            engine=engine,
            runtime=replace(engine.runtime(), tuning=cache / TUNING),
            run=self._run,
        )
        self._queue: TaskQueue[SpanJob] = TaskQueue()
        self._at_work: dict[str, _Video] = {}
        self._names: Mapping[str, Sequence[str]] = {}
        self._unlisted: dict[str, list[ShardRow]] = {name: [] for name in self._stores}
        self.n_written = 0
        self.devices: set[str] = set()
        self.errors: dict[str, BaseException] = {}
        self.notes: dict[str, set[str]] = {}
        self.damaged: dict[str, int] = {}
        self.waited: float | None = None
        self.seconds = 0.0
        self.task_seconds = 0.0
        self.write_seconds = 0.0

    def go(
        self,
        plans: Sequence[VideoPlan],
        cost: Estimate,
        names: Mapping[str, Sequence[str]] | None = None,
        failed: Sequence[Failure] = (),
    ) -> None:
        """Run all tasks of the plans.

        Args:
            plans:
                What is missing.
            cost:
                Of it.
            names:
                content id -> ids of the videos that have this content, for the journal.
            failed:
                Videos that are known to fail; the journal counts them too.

        Raises:
            CannotWrite: the disk is full or read-only.
            ClusterError: the cluster cannot be used, or no worker is left.
        """
        if self._engine.processes():
            check_script()  # before anything is written
        totals = {
            "videos": len(plans),
            "spans": sum(len(group) for plan in plans for group in plan.groups()),
            "frames": cost.frames,
        }
        self._names = names or {}
        self._queue = TaskQueue(self._all_jobs(plans))
        try:
            with (
                journal(self._cache, _command(), totals, failed) as kept,
                open_client(self._engine) as client,
                progress_bar("extract", cost.frames) as advance,
                following(self._run, advance) as progress,
            ):
                if self._engine.scheduler is not None:
                    check_workers(client, {self._cache, self._store_root})
                try:
                    self._collect(client, kept, progress)
                except (KeyboardInterrupt, GeneratorExit):
                    kept.update(now=True, state="stopped", running=())  # waiting may be cut short
                    raise
                finally:  # before the client closes: that waits for the threads, which look here
                    end_run(self._run)
                if self._at_work:
                    raise RuntimeError(f"tasks never came back: {', '.join(self._at_work)}")
                self.seconds, self.waited = kept.state.seconds, kept.state.waited
        finally:
            forget_run(self._run)
            for video in self._at_work.values():
                self._list(video.shards)
            for name, store in self._stores.items():
                store.add_index_part(self._unlisted.pop(name))
                store.fold_index()

    def note(self, failed: Sequence[Failure]) -> None:
        """Write down a run that has nothing to do but videos that fail."""
        with journal(self._cache, _command(), {"videos": 0, "spans": 0, "frames": 0}, failed):
            pass

    def _all_jobs(self, plans: Sequence[VideoPlan]) -> Iterator[SpanJob]:
        """The tasks of all videos, made one by one: an archive has more than fit into memory."""
        for plan in plans:
            yield from self._begin(plan)

    def _begin(self, plan: VideoPlan) -> Iterator[SpanJob]:
        content = plan.row.content_id
        for store, renew in zip(self._stores.values(), plan.again, strict=False):
            if renew:
                tell(
                    f"{store.name}: features of {plan.row.path} were made of another file, or of "
                    "another number of frames; they are made again",
                    style="yellow",
                )
                store.remove_video(content)
                store.unlist([content])
        self._at_work[plan.row.content_id] = _Video(plan.row, len(plan.groups()), plan.error)
        yield from self._jobs_of(plan)

    def _collect(self, client: Client, kept: Journal, progress: FramesRead) -> None:
        resources = share_of(self._engine)
        tasks = run_tasks(
            client, run_job, self._queue, resources=resources, group=lambda job: job.row.content_id
        )
        with closing(tasks) as outcomes:
            for outcome in outcomes:
                job, video = outcome.task, self._at_work[outcome.task.row.content_id]
                if isinstance(outcome.error, CannotWrite):
                    raise outcome.error
                if outcome.error is not None:
                    self._note_error(job, video, outcome.error)
                elif outcome.value is not None:
                    self._note(video, outcome.value, kept)
                progress.ended(job.name, job.frames)
                video.left -= 1
                ended = video.left == 0 and self._end(video, kept, progress)
                running = islice(self._at_work.values(), SHOWN)
                kept.update(
                    videos_done=kept.state.videos_done + ended,
                    spans_done=kept.state.spans_done + len(job.spans),
                    frames_done=kept.state.frames_done + job.frames,
                    shards=self.n_written,
                    running=tuple(Path(each.row.path).name for each in running),
                )

    def _note(self, video: _Video, result: SpanResult, kept: Journal) -> None:
        video.shards += [*result.written, *result.found]
        video.n_frames = result.n_frames or video.n_frames
        video.flags.update(result.flags)
        video.damaged += result.damaged
        self.n_written += len(result.written)
        self.devices |= result.devices
        self.task_seconds += result.seconds
        self.write_seconds += result.write_seconds
        kept.note_usage(result.before, result.after)

    def _note_error(self, job: SpanJob, video: _Video, error: BaseException) -> None:
        if isinstance(error, SeekMismatch) and not job.row.sequential_only:
            video.seek_failed = True
            return
        video.error = error
        if quarantine.belongs_there(error):
            quarantine.add(self._cache, video.row.content_id, video.row.path, error)

    def _end(self, video: _Video, kept: Journal, progress: FramesRead) -> bool:
        """After the last task of a video; False if the video has to be decoded again."""
        content = video.row.content_id
        del self._at_work[content]
        if video.seek_failed and video.error is None:
            self._do_again(video.row, kept, progress)
            return False
        error = video.error or self._refuse_empty(video)
        if error is not None:
            self.errors[content] = error
            self._keep_leftovers(content)
            for video_id in self._names.get(content) or [Path(video.row.path).name]:
                kept.fail(describe_failure(video_id, "extract", error))
            return True
        self._list(video.shards)
        if video.flags:
            self.notes[content] = video.flags
        if video.damaged:
            self.damaged[content] = video.damaged
        self._when_done(content)
        return True

    def _do_again(self, row: ProbeRow, kept: Journal, progress: FramesRead) -> None:
        """Decode a whole video again, in order.

        Spans that were read before the mismatch may have wrong frame numbers too, so their shards
        are deleted.
        """
        for store in self._stores.values():
            store.remove_video(row.content_id)
        again = Probed({row.content_id: in_order(row)})
        stores = list(self._stores.values())
        for plan in plan_videos(again, stores, self._engine.span_frames):
            for job in self._begin(plan):
                self._queue.add(job)
                progress.again(job.frames)
                kept.update(
                    spans=kept.state.spans + len(job.spans),
                    frames=kept.state.frames + job.frames,
                )

    def _refuse_empty(self, video: _Video) -> ExtractorError | None:
        """The error of a video without a single row; None if there are rows."""
        content = video.row.content_id
        for spec, store in zip(self._specs, self._stores.values(), strict=True):
            if any(name == store.name and shard.rows for name, shard in video.shards):
                continue
            if not _is_empty(store, content):
                continue
            store.remove_video(content)
            rule = spec.make().clip_rule
            return ExtractorError(
                f"all clips of the video have damaged frames ({video.damaged} of "
                f"{video.n_frames}): take --on-corrupt keep, or leave it out"
                if clip_count(video.n_frames, rule)
                else f"the video has {video.n_frames} frames, fewer than one clip of "
                f"{rule.length}; --set tail=loop repeats frames to fill it"
            )
        return None

    def _keep_leftovers(self, content: str) -> None:
        """List the shards of a failed video that are on disk.

        A task that fails does not report what it has written before.
        """
        for name, store in self._stores.items():
            if self._store_root != self._cache:
                store.remove_video(content)
            for *_, path in store.shards(content):
                with suppress(*UNREADABLE):
                    self._list([(name, row_of(path))])

    def _list(self, shards: Sequence[tuple[str, ShardRow]]) -> None:
        """Put shards into the index, many in one part."""
        for name, row in shards:
            self._unlisted[name].append(row)
            if len(self._unlisted[name]) >= INDEX_ROWS:
                self._stores[name].add_index_part(self._unlisted[name])
                self._unlisted[name] = []


def _is_empty(store: FeatureStore, content: str) -> bool:
    """Whether all shards of a video are without rows; False if one cannot be read."""
    for *_, path in store.shards(content):
        try:
            if row_of(path).rows:
                return False
        except UNREADABLE:
            return False
    return True


def shared_weights(specs: Sequence[ExtractorSpec], cache: Path) -> list[ExtractorSpec]:
    """The specs with their weights in the cache, which all workers of a cluster see."""
    moved = []
    for spec in specs:
        weights = dict(spec.weights)
        for slot, each in weights.items():
            if each.path is not None:
                path = cache / "weights" / each.path.name
                if not path.is_file():
                    write_atomically(path, partial(shutil.copyfile, each.path))
                weights[slot] = replace(each, path=path.absolute())
        moved.append(replace(spec, weights=weights))
    return moved


def _command() -> str:
    """As typed."""
    return " ".join(["vadpipe", *sys.argv[1:]]) if sys.argv[0].endswith("vadpipe") else "extract"
