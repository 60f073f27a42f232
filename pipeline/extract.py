"""Extract stage: spans of footage -> shards of features, each span decoded once."""

from __future__ import annotations

import json
import platform
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache as memoise
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from distributed import Client
from numpy.typing import NDArray

from ..data_manifests.record import Manifest
from ..extractors import EXTRACTORS
from ..extractors.base import Extractor, ExtractorError, Precision, PrecisionRequest, cast_checked
from ..extractors.clips import Clip, ClipAssembler, ClipRule, Span, clip_count, plan_spans
from ..extractors.decode import FrameReader, read_frames
from ..extractors.video import Frame, NoFootage, ProbeRow, SeekMismatch, in_order
from ..extractors.weights import ResolvedWeights, resolve
from .execute import (
    Failure,
    console,
    cpu_count,
    describe_failure,
    open_client,
    progress_bar,
    run_tasks,
)
from .probe import Probed
from .store import FeatureStore, ShardRow, VideoFacts

SPAN_FRAMES = 16_384  # about ten minutes; not part of any key
QUEUE_BYTES = 256 << 20


@dataclass(frozen=True)
class ExtractorSpec:
    """An extractor with all its settings, small enough to be sent to a worker."""

    name: str
    config: dict[str, Any]
    weights: ResolvedWeights | None
    precision: Precision

    def make(self) -> Extractor[Any]:
        """The extractor itself; nothing is loaded yet.

        Raises:
            pydantic.ValidationError: a setting is wrong or unknown.
        """
        kind = EXTRACTORS[self.name]
        config = kind.Config.model_validate(self.config)
        return kind(config, weights=self.weights, precision=self.precision)


def resolve_extractor(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    weights: str | None = None,
    precision: PrecisionRequest = "auto",
    device: str = "cpu",
) -> ExtractorSpec:
    """Settle every choice that decides the numbers, before a key is made.

    Args:
        name:
            `NAME` or `NAME:PRESET`.
        settings:
            Config values that differ from the default (or the preset).
        weights:
            A card's name, a file, or "random:SEED"; None takes the default card.
        precision:
            "auto" becomes what the device does best.
        device:
            "cpu", "cuda:0", ...

    Raises:
        ExtractorError: unknown extractor or preset, or a precision that the device lacks.
        WeightsError: the weights are missing or wrong.
        pydantic.ValidationError: a setting is wrong or unknown.
    """
    base, _, preset = name.partition(":")
    if base not in EXTRACTORS:
        raise ExtractorError(f"no extractor {base!r}; there are: {', '.join(EXTRACTORS)}")
    kind = EXTRACTORS[base]
    if preset and preset not in kind.presets:
        known = ", ".join(kind.presets) or "none"
        raise ExtractorError(f"{base} has no preset {preset!r}; it has: {known}")
    config = {**kind.presets.get(preset, {}), **(settings or {})}
    cards = kind.cards_for(kind.Config.model_validate(config))
    if not cards:
        if weights is not None:
            raise ExtractorError(f"{base} has no network and takes no weights")
        return ExtractorSpec(base, config, None, "fp32")
    from ..extractors.inference import resolve_precision  # torch: only where a network is used

    resolved = resolve(cards, weights)
    return ExtractorSpec(base, config, resolved, resolve_precision(precision, device))


@dataclass(frozen=True)
class SpanJob:
    """The spans of one video that one task decodes in order, with what each still lacks."""

    cache: str
    row: ProbeRow
    spans: tuple[Span, ...]
    missing: tuple[tuple[int, ...], ...]
    """For each extractor: which spans to compute."""
    specs: tuple[ExtractorSpec, ...]
    device: str
    batch_size: int | None
    threads: int


@dataclass(frozen=True)
class SpanResult:
    """What one task has done; small, as it goes through the scheduler."""

    written: tuple[tuple[str, ShardRow], ...]
    n_frames: int | None
    flags: tuple[str, ...]


@dataclass
class Extracted:
    """What an extract run did.

    Attributes:
        stores: one for each extractor.
        rows: video_id -> probe row of the videos that are complete now.
        written: shards written by this run.
        failures: videos that failed.
        notes: video_id -> what decoding noticed.
    """

    stores: list[FeatureStore]
    rows: dict[str, ProbeRow]
    written: int = 0
    failures: list[Failure] = field(default_factory=list)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """What an extract run would cost.

    Attributes:
        videos: videos with something to do.
        spans: shards to write.
        rows: clips to compute, over all extractors.
        bytes: to write.
        flops: of the networks.
        frames: to decode.
    """

    videos: int
    spans: int
    rows: int
    bytes: int
    flops: float
    frames: int


def stores_of(specs: Sequence[ExtractorSpec], cache: Path) -> list[FeatureStore]:
    """The feature set that each extractor writes; nothing is made on disk."""
    return [FeatureStore(cache, spec.make().recipe()) for spec in specs]


def plan_jobs(
    probed: Probed,
    specs: Sequence[ExtractorSpec],
    cache: Path,
    *,
    span_frames: int = SPAN_FRAMES,
    device: str = "cpu",
    batch_size: int | None = None,
    threads: int = 1,
) -> list[SpanJob]:
    """The tasks of a run: what is on disk already is left out; the same footage comes once."""
    stores = stores_of(specs, cache)
    jobs: list[SpanJob] = []
    for row in {row.content_id: row for row in probed.rows.values()}.values():
        if row.kind == "features":
            continue  # nothing to decode: `extract` says so
        spans = plan_spans(row.content_id, row.n_frames, span_frames)
        missing = tuple(
            ()
            if store.complete(row.content_id)
            else tuple(i for i, span in enumerate(spans) if not store.has(span))
            for store in stores
        )
        wanted = sorted({i for indices in missing for i in indices})
        groups = [tuple(wanted)] if row.sequential_only else [(i,) for i in wanted]
        for group in groups:
            if group:
                jobs.append(
                    SpanJob(
                        str(cache),
                        row,
                        tuple(spans[i] for i in group),
                        tuple(tuple(group.index(i) for i in m if i in group) for m in missing),
                        tuple(specs),
                        device,
                        batch_size,
                        threads,
                    )
                )
    return jobs


def estimate(jobs: Sequence[SpanJob]) -> Estimate:
    """Rows, bytes, FLOPs and frames of a list of jobs, from the probe alone."""
    rows = size = frames = shards = 0
    flops = 0.0
    for job in jobs:
        frames += _frames(job)
        for spec, missing in zip(job.specs, job.missing, strict=True):
            extractor = _prepared(spec)
            row_bytes = 16 + sum(
                int(np.prod(a.shape)) * np.dtype(a.dtype).itemsize for a in extractor.arrays
            )
            clips = sum(_clips(job.spans[i], job.row, extractor.clip_rule) for i in missing)
            rows += clips
            size += clips * row_bytes
            flops += clips * extractor.flops(job.row.height, job.row.width)
            shards += len(missing)
    videos = len({job.row.content_id for job in jobs})
    return Estimate(videos, shards, rows, size, flops, frames)


def _clips(span: Span, row: ProbeRow, rule: ClipRule) -> int:
    """Clips that a span owns: starts before its end, less those before its beginning."""
    whole = clip_count(row.n_frames, rule)
    stop = whole if span.last else min(whole, -(-span.frame_stop // rule.stride))
    return stop - min(stop, -(-span.frame_start // rule.stride))


def extract(
    manifest: Manifest,
    probed: Probed,
    specs: Sequence[ExtractorSpec],
    cache: Path,
    *,
    span_frames: int = SPAN_FRAMES,
    device: str = "cpu",
    batch_size: int | None = None,
    workers: int = 0,
    max_bytes: int | None = None,
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
        span_frames:
            Frames a span; changes no value.
        device:
            Where the networks run.
        batch_size:
            Clips a batch; None takes each extractor's own.
        workers:
            Local processes; 0 runs in this process.
        max_bytes:
            Refuse to write more than this.

    Raises:
        ExtractorError: the estimate is above `max_bytes`.
    """
    plan = partial(
        plan_jobs,
        specs=specs,
        cache=cache,
        span_frames=span_frames,
        device=device,
        batch_size=batch_size,
        threads=max(1, cpu_count() // max(1, workers)),
    )
    jobs = plan(probed)
    size = estimate(jobs).bytes
    if max_bytes is not None and size > max_bytes:
        raise ExtractorError(
            f"this run would write about {size:,} bytes, more than --max-bytes {max_bytes:,}"
        )
    stores = stores_of(specs, cache)
    for store in stores:
        store.create()
    done = Extracted(stores, {})
    tally = _Tally({store.name: [] for store in stores})
    try:
        if jobs:
            with open_client(workers=workers) as client:
                _run_jobs(client, jobs, tally)
                if tally.in_order:  # every span again: numbers found by seeking may be wrong too
                    rows = {
                        video_id: in_order(row)
                        for video_id, row in probed.rows.items()
                        if row.content_id in tally.in_order
                    }
                    for store, content in product(stores, tally.in_order):
                        store.remove_video(content)
                    _run_jobs(client, plan(Probed(rows)), tally)
    finally:
        for store in stores:
            store.add_index_part(tally.written[store.name])
    errors, notes, index = tally.errors, tally.notes, tally.written
    done.written = sum(len(rows) for rows in index.values())
    no_footage = NoFootage("no footage: import features, or build the manifest with footage")
    for video_id, probe_row in probed.rows.items():
        if probe_row.kind == "features" and specs:
            done.failures.append(describe_failure(video_id, "extract", no_footage))
        elif probe_row.content_id in errors:
            failure = describe_failure(video_id, "extract", errors[probe_row.content_id])
            done.failures.append(failure)
        else:
            done.rows[video_id] = probe_row
            if notes.get(probe_row.content_id):
                done.notes[video_id] = tuple(sorted(notes[probe_row.content_id]))
    expected = {r.video_id: r.expected_frames for r in manifest.records}
    for video_id, probe_row in done.rows.items():
        n, known = expected[video_id], probe_row.n_frames
        if n is not None and n != known:
            console.print(
                f"[yellow]{video_id}: the manifest expects {n} frames, the file has {known}[/]"
            )
    return done


@dataclass
class _Tally:
    """What the tasks of a run have reported so far."""

    written: dict[str, list[ShardRow]]
    errors: dict[str, BaseException] = field(default_factory=dict)
    notes: dict[str, set[str]] = field(default_factory=dict)
    in_order: set[str] = field(default_factory=set)
    """Videos whose seeking turned out to be wrong."""


def _run_jobs(client: Client, jobs: Sequence[SpanJob], tally: _Tally) -> None:
    with progress_bar("extract", sum(_frames(job) for job in jobs)) as advance:
        for outcome in run_tasks(client, run_job, jobs):
            content = outcome.task.row.content_id
            if isinstance(outcome.error, SeekMismatch) and not outcome.task.row.sequential_only:
                tally.in_order.add(content)
            elif outcome.value is None:
                assert outcome.error is not None
                tally.errors[content] = outcome.error
            else:
                for name, row in outcome.value.written:
                    tally.written[name].append(row)
                tally.notes.setdefault(content, set()).update(outcome.value.flags)
            advance(_frames(outcome.task))


def _frames(job: SpanJob) -> int:
    return sum(span.frame_stop - span.frame_start for span in job.spans)


# -- inside a task -----------------------------------------------------------------------------


@memoise
def _provenance(device: str) -> dict[str, str]:
    import av

    ffmpeg = ".".join(str(v) for v in av.library_versions.get("libavcodec", ()))
    return {
        "vadpipe": version("vadpipe"),
        "torch": version("torch"),
        "ffmpeg": f"libavcodec {ffmpeg}",
        "device": "cpu " + platform.machine() if device == "cpu" else device.partition(":")[0],
    }


_prepared_lock = threading.Lock()
_prepared_extractors: dict[str, Extractor[Any]] = {}


def _prepared(spec: ExtractorSpec, device: str | None = None) -> Extractor[Any]:
    """The extractor of a spec, made once a process; loaded on the device if one is named."""
    place = f"{spec.name} {json.dumps(spec.config, sort_keys=True)} {spec.precision} {device}"
    place += "" if spec.weights is None else spec.weights.identity
    with _prepared_lock:
        if place not in _prepared_extractors:
            extractor = spec.make()
            if device is not None:
                extractor.load(device)
            _prepared_extractors[place] = extractor
        return _prepared_extractors[place]


class _SpanWork:
    """Clips, batches and rows of one span for one extractor."""

    def __init__(self, extractor: Extractor[Any], span: Span, batch_size: int | None) -> None:
        self.extractor = extractor
        self.span = span
        self.assembler = ClipAssembler(extractor.clip_rule, span)
        self.batch_size = batch_size or extractor.batch_size
        self.clips: list[Clip] = []
        self.starts: list[int] = []
        self.stops: list[int] = []
        self.pieces: dict[str, list[Any]] = {spec.name: [] for spec in extractor.arrays}

    def push(self, frame: Frame) -> None:
        self._take(self.assembler.push(frame))

    def finish(self) -> None:
        self._take(self.assembler.finish())
        self._flush()

    def _take(self, clips: Sequence[Clip]) -> None:
        for clip in clips:
            self.clips.append(clip)
            if len(self.clips) == self.batch_size:
                self._flush()

    def _flush(self) -> None:
        if not self.clips:
            return
        arrays = self.extractor.extract(self.clips)
        self.starts += [clip.frame_start for clip in self.clips]
        self.stops += [clip.frame_stop for clip in self.clips]
        self.clips = []
        for spec in self.extractor.arrays:
            values = arrays[spec.name]
            if not isinstance(values, pa.Table):
                values = cast_checked(values, spec.dtype, spec.name)
            self.pieces[spec.name].append(values)

    def write(self, store: FeatureStore, facts: VideoFacts, device: str) -> ShardRow:
        self._flush()
        arrays: dict[str, NDArray[Any] | pa.Table] = {}
        for spec in self.extractor.arrays:
            pieces = self.pieces[spec.name]
            if pieces and isinstance(pieces[0], pa.Table):
                arrays[spec.name] = pa.concat_tables(pieces)
            else:
                arrays[spec.name] = np.concatenate(
                    [np.empty((0, *spec.shape), spec.dtype), *pieces]
                )
        if self.span.frame_start == 0 and self.span.last and not self.starts:
            rule = self.extractor.clip_rule
            raise ExtractorError(
                f"the video has {facts.n_frames} frames, fewer than one clip of {rule.length}; "
                "--set tail=loop repeats frames to fill it"
            )
        return store.write(
            self.span,
            arrays,
            np.asarray(self.starts, np.int64),
            np.asarray(self.stops, np.int64),
            self.extractor.arrays,
            facts,
            _provenance(device),
        )


def run_job(job: SpanJob) -> SpanResult:
    """Decode the spans of a job once and write a shard for each extractor and span.

    Raises:
        SeekMismatch: the file has to be decoded in order; `extract` does that.
        DecodeError, ExtractorError, StoreError: this video fails, others go on.
    """
    if any(spec.weights is not None for spec in job.specs):
        import torch

        torch.set_num_threads(job.threads)
    stores: dict[int, FeatureStore] = {}
    waiting: list[tuple[int, _SpanWork]] = []
    for number, (spec, missing) in enumerate(zip(job.specs, job.missing, strict=True)):
        if missing:
            extractor = _prepared(spec, job.device)
            stores[number] = FeatureStore(Path(job.cache), extractor.recipe())
            waiting += [
                (number, _SpanWork(extractor, job.spans[i], job.batch_size)) for i in missing
            ]
    waiting.sort(key=lambda item: item[1].assembler.first_frame)
    start = waiting[0][1].assembler.first_frame
    active: list[tuple[int, _SpanWork]] = []
    written: list[tuple[str, ShardRow]] = []
    corrupt = 0

    reader = read_frames(job.row, start)

    def write(number: int, work: _SpanWork, n_frames: int | None) -> None:
        flags = _flags(job.row, corrupt, n_frames, reader.cut_off)
        store = stores[number]
        row = work.write(store, VideoFacts(job.row.fps, n_frames, flags), job.device)
        written.append((store.name, row))

    at, ended = start, True
    for frame in _ahead(reader, job.row.height * job.row.width * 3):
        at = frame.index + 1
        corrupt += frame.corrupt
        while waiting and waiting[0][1].assembler.first_frame <= frame.index:
            active.append(waiting.pop(0))
        for _, work in active:
            work.push(frame)
        for number, work in [item for item in active if item[1].assembler.done]:
            write(number, work, None)
        active = [item for item in active if not item[1].assembler.done]
        if not active and not waiting:
            ended = False
            break
    if ended:
        if at == start > 0:  # the header promised frames that are not there: count the real ones
            at = sum(1 for _ in read_frames(job.row))
        for number, work in active + waiting:
            work.finish()
            write(number, work, at)
    n_frames = at if ended else None
    flags = _flags(job.row, corrupt + reader.failed_packets, n_frames, reader.cut_off)
    return SpanResult(tuple(written), n_frames, flags)


def _flags(row: ProbeRow, corrupt: int, n_frames: int | None, cut_off: bool) -> tuple[str, ...]:
    flags = set(row.flags)
    if cut_off:
        flags.add("truncated")
    if corrupt:
        flags.add("corrupt_frames")
    if n_frames is not None and n_frames != row.n_frames:
        flags.add("header_mismatch")
    return tuple(sorted(flags))


def _ahead(frames: FrameReader, frame_bytes: int) -> Iterator[Frame]:
    """Decode in a thread of its own, ahead of the network, bounded by a queue."""
    size = max(4, min(64, QUEUE_BYTES // max(1, frame_bytes)))
    ready: queue.Queue[Frame | BaseException | None] = queue.Queue(size)
    stop = threading.Event()

    def put(item: Frame | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def decode() -> None:
        try:
            for frame in frames:
                if not put(frame):
                    return
            put(None)
        except BaseException as error:  # handed to the consumer, which raises it
            put(error)
        finally:
            frames.close()

    thread = threading.Thread(target=decode, name="decode", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
