"""What one task does: decode spans of a video once, run extractors over them, write shards."""

from __future__ import annotations

import bisect
import json
import platform
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache as memoise
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...extractors.base import Extractor, Runtime
from ...extractors.clips import ClipAssembler, ClipRule, Span, run_length
from ...extractors.device.lane import Usage, lane_of
from ...extractors.footage.decode import FrameReader
from ...extractors.footage.errors import CorruptFrames
from ...extractors.footage.guarded import guarded_frames
from ...extractors.footage.identity import still_probed
from ...extractors.footage.limits import DecodeLimits
from ...extractors.footage.resizing import Resize
from ...extractors.footage.stamp import check_stamp
from ...extractors.footage.video import Frame, ProbeRow
from ..store.feature_store import FeatureStore
from ..store.shard import UNREADABLE, ShardRow, VideoFacts, row_of
from .clip_memory import check_clips, out_of_memory
from .extractor_spec import ExtractorSpec
from .frames_read import Teller
from .run_end import has_ended
from .small_frames import picture_of, small_frames
from .span_work import SpanWork
from .stored_frames import stored_frames
from .wanted_frames import wanted_frames


class Stopped(RuntimeError):
    """The run ended while the task was running."""


@dataclass(frozen=True)
class SpanJob:
    """The spans of one video that one task decodes in order, and what is missing of each.

    Attributes:
        store_root: the folder of the feature sets: the cache, or one that is deleted afterwards.
        row: the video.
        spans: in temporal order.
        missing: for each extractor, which of the spans to compute.
        specs: the extractors.
        runtime: where and how networks run; with threads None, on those of the worker.
        decode_threads: of the decoder.
        limits: what the file may cost.
        source_root: where the shards of the pixel source of the extractors lie; None decodes.
        run: that the task belongs to, see `run_end`.
        streams: tasks in flight on the machine.
    """

    store_root: str
    row: ProbeRow
    spans: tuple[Span, ...]
    missing: tuple[tuple[int, ...], ...]
    specs: tuple[ExtractorSpec, ...]
    runtime: Runtime
    decode_threads: int
    limits: DecodeLimits
    source_root: str | None = None
    run: str = ""
    streams: int = 1

    def __post_init__(self) -> None:
        sources = [spec.source for spec in self.specs]
        if any(source != sources[0] for source in sources):
            raise ValueError("the extractors of a task read the same pixels")
        if (sources[0] is None) != (self.source_root is None):
            raise ValueError("a task reads footage, or a source whose root is given")

    @property
    def name(self) -> tuple[str, int]:
        """What the task is called in its run: the video, and where its first span begins."""
        return self.row.content_id, self.spans[0].frame_start

    @property
    def frames(self) -> int:
        """Frames to decode, by the probe."""
        return sum(span.frame_stop - span.frame_start for span in self.spans)


@dataclass(frozen=True)
class SpanResult:
    """What one task has done. It is small, as it goes through the scheduler.

    Attributes:
        written: (feature set, its shard) pairs.
        found: the same for shards that an earlier attempt or another run had written before.
        n_frames: of the video, where its end was reached.
        flags: of the video, and what decoding noticed.
        damaged: frames of the spans that the decoder marked as damaged.
        seconds: of the task.
        write_seconds: of durable writing.
        devices: that have computed what was written.
        before: what the device of this process had done when the task began.
        after: what it had done when the task ended.
    """

    written: tuple[tuple[str, ShardRow], ...]
    found: tuple[tuple[str, ShardRow], ...]
    n_frames: int | None
    flags: tuple[str, ...]
    damaged: int
    seconds: float
    write_seconds: float
    devices: frozenset[str]
    before: Usage
    after: Usage


def run_job(job: SpanJob) -> SpanResult:
    """Decode the spans of a job once and write a shard for each extractor and span.

    Raises:
        SeekMismatch: the file has to be decoded in order; the caller sees to that.
        ChangedFile: the file is not the one that was probed; nothing is stored of what it is now.
        DecodeError, ExtractorError, StoreError: this video fails, others go on.
        OutOfMemory: the clips of the video need more memory than there is.
        CannotWrite: the disk is full or read-only, so every other video would fail too.
        Stopped: the run has ended.
    """
    try:
        return _Run(job).finish()
    except (MemoryError, RuntimeError) as error:
        if (problem := out_of_memory(error, job.row)) is None:
            raise
        raise problem from None  # numpy's error cannot be sent between processes


class _Run:
    """One pass over the frames of a job.

    A piece of work is one span for one extractor (`SpanWork`). All pieces wait in the order of the
    first frame that they need, become active when that frame comes, and are written and dropped
    when their last one has come. So each frame is decoded once, whatever the number of extractors,
    and memory holds the active pieces only. Batches are computed in a second thread, while this one
    reads the frames of the next.
    """

    def __init__(self, job: SpanJob) -> None:
        self._job = job
        self._begin = time.monotonic()
        self._runtime = _with_threads(job.runtime)
        self._lane = lane_of(self._runtime.device)
        self._before = self._lane.usage()
        self._stores: dict[int, FeatureStore] = {}
        self._waiting: list[tuple[int, SpanWork]] = []
        self._active: list[tuple[int, SpanWork]] = []
        self._devices: set[str] = set()
        self._written: list[tuple[str, ShardRow]] = []
        self._found: list[tuple[str, ShardRow]] = []
        self._damaged: Counter[int] = Counter()  # by the first frame of a span
        self._damaged_frames: list[int] = []
        self._damaged_before: Counter[int] = Counter()  # the same, as shards on disk state it
        self._write_seconds = 0.0
        self._starts = [span.frame_start for span in job.spans]
        self._teller = Teller(job.run, job.name, self._starts[0], job.frames)
        self._rules = [
            spec.clip_rule() for spec, todo in zip(job.specs, job.missing, strict=True) if todo
        ]
        self._resizes = _resizes(job)
        self._start = first_frame(self._rules, job.spans[0])
        check_clips(job.row, job.specs, job.limits, job.streams)
        # The file with its stamp of now; a source may be read where its footage is gone.
        self._row = (
            still_probed(job.row, job.limits)
            if job.source_root is None
            else replace(job.row, stamp="")
        )
        # Opened before the networks are loaded: it decodes in the meantime.
        self._reader = self._open(self._start)
        self._side = ThreadPoolExecutor(1, thread_name_prefix="batches")

    def _open(self, start: int) -> FrameReader:
        """The frames of the video from `start` on: of the footage, or of the pixel source."""
        job = self._job
        source = job.specs[0].source
        if source is None or job.source_root is None:
            return guarded_frames(
                self._row,
                start,
                threads=job.decode_threads,
                limits=job.limits,
                lend=run_length(self._rules),
                wanted=wanted_frames(job.specs, self._rules),
                resizes=self._resizes,
            )
        return stored_frames(source, Path(job.source_root), self._row, start)

    def _prepare(self) -> None:
        """Load the networks and line up the pieces of work."""
        job = self._job
        for number, (spec, missing) in enumerate(zip(job.specs, job.missing, strict=True)):
            if not missing:
                continue
            extractor = prepared(spec, self._runtime, len(job.specs))
            self._stores[number] = FeatureStore(Path(job.store_root), spec.recipe())
            picture = picture_of(spec, job.row, self._resizes)
            for i in missing:
                if self._is_there(number, job.spans[i]):
                    continue
                work = SpanWork(
                    extractor, spec, job.spans[i], job.row, self._runtime, self._side, picture
                )
                self._waiting.append((number, work))
        self._waiting.sort(key=lambda item: item[1].assembler.first_frame)

    def _is_there(self, number: int, span: Span) -> bool:
        """Whether an earlier attempt or another run has written the shard since the plan."""
        store = self._stores[number]
        path = store.shard_path(span)
        if not path.is_file():
            return False
        try:
            row = row_of(path)
        except UNREADABLE:
            return False  # damaged: it is written again
        self._found.append((store.name, row))
        self._damaged_before[span.frame_start] = row.damaged or 0
        return True

    def finish(self) -> SpanResult:
        """Read until everything is written or the video ends."""
        try:
            with self._reader:
                self._prepare()
                with self._lane.wanted():
                    at, ended = self._read()
                    if ended:
                        at = self._end(at)
        finally:
            self._side.shutdown(cancel_futures=True)
        n_frames = at if ended else None
        return SpanResult(
            tuple(self._written),
            tuple(self._found),
            n_frames,
            self._flags(n_frames),
            sum((self._damaged | self._damaged_before).values()),
            time.monotonic() - self._begin,
            self._write_seconds,
            frozenset(self._devices),
            self._before,
            self._lane.usage(),
        )

    def _read(self) -> tuple[int, bool]:
        """Where reading stopped, and whether the video ended there."""
        at = self._start
        if not self._waiting:
            return at, False
        for frame in self._reader:
            if has_ended(self._job.run):
                raise Stopped("the run was ended")
            self._teller.read(frame.index)
            at = frame.index + 1
            self._push(frame)
            if not self._active and not self._waiting:
                return at, False
        return max(at, self._reader.passed), True

    def _push(self, frame: Frame) -> None:
        if frame.corrupt:
            self._note_damage(frame)
        while self._waiting and self._waiting[0][1].assembler.first_frame <= frame.index:
            self._active.append(self._waiting.pop(0))
        for _, work in self._active:
            work.push(frame)
        done = [item for item in self._active if item[1].ends_with(frame)]
        if done:
            self._active = [item for item in self._active if item not in done]
            for number, work in done:
                self._write(number, work, None)

    def _end(self, at: int) -> int:
        """The decoder has ended, and all pieces left end with it; returns the video's length."""
        # Not one frame came after a seek: the header promised frames that do not exist. The length
        # is then found by counting from the start.
        if at == self._start > 0:
            with self._open(0) as reader:
                count = sum(1 for _ in reader)
            at = max(count, reader.passed)  # of frames that are left out, none were counted
        for number, work in self._active + self._waiting:
            work.finish(at)
            work.extractor.check_end(self._job.row.path, at)
            self._write(number, work, at)
        return at

    def _note_damage(self, frame: Frame) -> None:
        if any(work.policy == "fail" for _, work in self._active + self._waiting):
            raise CorruptFrames(
                f"{self._job.row.path}: frame {frame.index} is damaged; --on-corrupt skip leaves "
                "out its clips, keep takes it as it is"
            )
        span = bisect.bisect_right(self._starts, frame.index) - 1
        if span >= 0 and self._is_in(frame.index, self._job.spans[span]):
            self._damaged[self._starts[span]] += 1
            self._damaged_frames.append(frame.index)

    @staticmethod
    def _is_in(frame: int, span: Span) -> bool:
        """Whether a frame is counted for a span; the last span has no end."""
        return frame >= span.frame_start and (frame < span.frame_stop or span.last)

    def _write(self, number: int, work: SpanWork, n_frames: int | None) -> None:
        facts = VideoFacts(
            self._job.row.fps,
            n_frames,
            self._flags(n_frames),
            self._damaged[work.span.frame_start],
            tuple(frame for frame in self._damaged_frames if self._is_in(frame, work.span)),
            self._row.whole_id,
        )
        rows = work.rows()
        check_stamp(Path(self._row.path), self._row.stamp)  # what was decoded is what was probed
        begin = time.monotonic()
        store = self._stores[number]
        devices = work.extractor.computed_on(self._runtime.device)
        maker = _provenance(devices)
        row = store.write(work.span, rows, work.extractor.arrays, facts, maker)
        self._write_seconds += time.monotonic() - begin
        self._written.append((store.name, row))
        self._devices |= devices

    def _flags(self, n_frames: int | None) -> tuple[str, ...]:
        flags = set(self._job.row.flags)
        if self._reader.cut_off:
            flags.add("truncated")
        if self._damaged or self._reader.failed_packets:
            flags.add("corrupt_frames")
        if n_frames is not None and n_frames != self._job.row.n_frames:
            flags.add("header_mismatch")
        return tuple(sorted(flags))


def _resizes(job: SpanJob) -> tuple[Resize, ...]:
    """What the decoder of a job returns of each frame; pixel sources return what they keep."""
    if job.source_root is not None:
        return ()
    specs = [spec for spec, todo in zip(job.specs, job.missing, strict=True) if todo]
    rules = [spec.clip_rule() for spec in specs]
    read = sum((rule.before + rule.length + rule.after) / rule.stride for rule in rules)
    return small_frames(job.row, specs, round(job.frames * min(1.0, read)))


def first_frame(rules: Iterable[ClipRule], span: Span) -> int:
    """The first frame to read for a span and for its clips with their context.

    Frames of the span that no clip needs are read too, so that their damage is counted.
    """
    return min(span.frame_start, *(ClipAssembler(rule, span).first_frame for rule in rules))


# ------------------------------------------------------------------------- once in each process


MOST_PREPARED = 8  # networks that a process keeps; workers of a cluster live longer than a run

_lock = threading.Lock()
_prepared: dict[str, Extractor[Any]] = {}  # in order of their last use


def prepared(spec: ExtractorSpec, runtime: Runtime, together: int = 1) -> Extractor[Any]:
    """The extractor of a spec on its device, loaded once in a process.

    Args:
        spec:
            The extractor.
        runtime:
            Where and how it runs.
        together:
            Extractors of the run: as many are kept at least.

    Raises:
        WeightsError: the weights are damaged.
    """
    weights = {slot: each.identity for slot, each in spec.weights.items()}
    what = [spec.name, str(spec.distribution), spec.config, spec.precision, weights]
    place = f"{json.dumps(what, sort_keys=True)} {runtime}"
    with _lock:
        extractor = _prepared.pop(place, None)
        if extractor is None:
            extractor = spec.make()
            extractor.load(runtime)
        _prepared[place] = extractor
        while len(_prepared) > max(MOST_PREPARED, together):
            del _prepared[next(iter(_prepared))]
        return extractor


def _with_threads(runtime: Runtime) -> Runtime:
    """The runtime with a number of threads: on a cluster, those of the worker."""
    if runtime.threads is not None:
        return runtime
    from distributed import get_worker

    return replace(runtime, threads=get_worker().state.nthreads)


@memoise
def _provenance(devices: frozenset[str]) -> dict[str, str]:
    import av

    ffmpeg = ".".join(str(v) for v in av.library_versions.get("libavcodec", ()))
    return {
        "vadpipe": version("vadpipe"),
        "torch": version("torch"),
        "ffmpeg": f"libavcodec {ffmpeg}",
        "device": " and ".join(
            "cpu " + platform.machine() if device == "cpu" else device.partition(":")[0]
            for device in sorted(devices)
        ),
    }
