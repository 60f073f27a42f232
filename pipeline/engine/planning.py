"""What a run has to do: the spans of videos that are not on disk yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...data_manifests.record import VideoRecord
from ...extractors.base import Extractor, Runtime
from ...extractors.clips import ClipRule, Span, clip_count, plan_spans
from ...extractors.footage.decode import row_for_span
from ...extractors.footage.video import ProbeRow
from ..store.feature_store import FeatureStore
from ..store.holdings import Holdings
from ..store.probe_table import Probed
from .extractor_spec import ExtractorSpec
from .settings import SPAN_FRAMES, Engine, cpu_count
from .sources import MissingSource, Upstream
from .span_task import SpanJob, first_frame


@dataclass(frozen=True)
class VideoPlan:
    """One video with something to do.

    Attributes:
        row: as probed.
        spans: all of the video.
        missing: for each extractor, which of the spans to compute.
        source_root: where the shards of its pixel source lie; None reads footage.
        error: why the video stays incomplete although its spans are computed.
        again: for each extractor, whether shards of another file are there: they have to go first;
            empty where there are none.
    """

    row: ProbeRow
    spans: tuple[Span, ...]
    missing: tuple[tuple[int, ...], ...]
    source_root: Path | None = None
    error: MissingSource | None = None
    again: tuple[bool, ...] = ()

    def groups(self) -> list[tuple[int, ...]]:
        """Spans that one task decodes together: one each, or all where seeking is not possible."""
        wanted = sorted({i for indices in self.missing for i in indices})
        return [tuple(wanted)] if self.row.sequential_only else [(i,) for i in wanted]


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
        hours: of footage to decode.
    """

    videos: int
    spans: int
    rows: int
    bytes: int
    flops: float
    frames: int
    hours: float


def plan_videos(
    probed: Probed,
    stores: Sequence[FeatureStore],
    span_frames: int = SPAN_FRAMES,
    upstream: Upstream | None = None,
) -> list[VideoPlan]:
    """The videos with something to do; the same footage comes once.

    Shards that a killed run has left unlisted are put into the index. With a pixel source, the
    spans are planned whose frames are there; a video that lacks some has an `error`.
    """
    rows = {row.content_id: row for row in probed.rows.values() if row.kind != "features"}
    holdings = [Holdings(store, rows) for store in stores]
    plans = []
    for row in rows.values():
        plan = _plan(row, holdings, span_frames, upstream)
        if any(plan.missing) or plan.error is not None:
            plans.append(plan)
    for held in holdings:
        held.list_unlisted()
    return plans


def ready_and_not(
    records: Sequence[VideoRecord],
    rows: Mapping[str, ProbeRow],
    stores: Sequence[FeatureStore],
    engine: Engine,
) -> tuple[list[VideoRecord], list[VideoRecord]]:
    """Videos whose features are whole, and the others.

    A video without footage has no features to extract; if some are needed, it is left to the
    extraction, which says so.

    Args:
        records:
            The videos.
        rows:
            video_id -> its file.
        stores:
            Features that can be extracted.
        engine:
            How they are.
    """
    asked = Probed({r.video_id: rows[r.video_id] for r in records})
    planned = {plan.row.content_id for plan in plan_videos(asked, stores, engine.span_frames)}
    ready: list[VideoRecord] = []
    others: list[VideoRecord] = []
    for record in records:
        row = rows[record.video_id]
        lacking = row.content_id in planned or (stores and row.kind == "features")
        (others if lacking else ready).append(record)
    return ready, others


def _plan(
    row: ProbeRow, holdings: Sequence[Holdings], span_frames: int, upstream: Upstream | None
) -> VideoPlan:
    content = row.content_id
    if upstream is None:
        spans = tuple(plan_spans(content, row.n_frames, span_frames))
        again = tuple(not held.agrees(row, row.n_frames) for held in holdings)
        return VideoPlan(row, spans, _missing(holdings, again, content, spans), again=again)
    if all(held.whole(content) and held.agrees(row, row.n_frames) for held in holdings):
        return VideoPlan(row, (), tuple(() for _ in holdings))  # without a look at the source
    if not upstream.agrees(row):  # the source is of another file: it comes first
        return VideoPlan(row, (), tuple(() for _ in holdings), error=upstream.missing(content))
    stored = upstream.row(row)
    spans = tuple(plan_spans(content, stored.n_frames, span_frames))
    ready = upstream.ready(content, spans)
    again = tuple(not held.agrees(row, row.n_frames, stored.n_frames) for held in holdings)
    missing = _missing(holdings, again, content, spans)
    now = tuple(tuple(i for i in each if i in ready) for each in missing)
    lacks = any(i not in ready for each in missing for i in each)
    error = upstream.missing(content) if lacks else None
    return VideoPlan(stored, spans, now, upstream.root(content), error, again)


def _missing(
    holdings: Sequence[Holdings], again: Sequence[bool], content: str, spans: Sequence[Span]
) -> tuple[tuple[int, ...], ...]:
    """For each extractor, which spans to compute: all of them where those there are to go."""
    return tuple(
        tuple(range(len(spans))) if renew else held.missing(content, spans)
        for held, renew in zip(holdings, again, strict=True)
    )


def jobs_of(
    plan: VideoPlan,
    specs: Sequence[ExtractorSpec],
    store_root: Path,
    engine: Engine,
    runtime: Runtime,
    run: str = "",
) -> Iterator[SpanJob]:
    """The tasks of a video, one for each of its groups; `run` is what they belong to."""
    rules = [spec.clip_rule() for spec in specs]
    decode_threads = streams = 1  # on a cluster, whose workers share out their cores themselves
    if engine.scheduler is None:
        streams = max(1, engine.processes()) * engine.streams_each()
        decode_threads = max(1, cpu_count() // streams)
    missing = [set(indices) for indices in plan.missing]
    for group in plan.groups():
        spans = tuple(plan.spans[i] for i in group)
        yield SpanJob(
            str(store_root),
            _row_for(plan.row, spans, rules),
            spans,
            tuple(tuple(n for n, i in enumerate(group) if i in wanted) for wanted in missing),
            tuple(specs),
            runtime,
            decode_threads,
            engine.limits,
            None if plan.source_root is None else str(plan.source_root),
            run,
            streams,
        )


def _row_for(row: ProbeRow, spans: Sequence[Span], rules: Sequence[ClipRule]) -> ProbeRow:
    """The row with no more key frames than the clips of the spans need."""
    reach = max(rule.length + rule.after for rule in rules)
    return row_for_span(row, first_frame(rules, spans[0]), spans[-1].frame_stop + reach)


def estimate(plans: Iterable[VideoPlan], specs: Sequence[ExtractorSpec]) -> Estimate:
    """Rows, bytes, FLOPs and frames of plans, from the probe alone."""
    extractors = [spec.make() for spec in specs]
    clip_bytes = [_bytes_a_clip(extractor) for extractor in extractors]
    rows = size = frames = shards = videos = 0
    flops = hours = 0.0
    for plan in plans:
        videos += 1
        wanted = [plan.spans[i] for group in plan.groups() for i in group]
        decoded = sum(span.frame_stop - span.frame_start for span in wanted)
        frames += decoded
        hours += decoded / plan.row.fps / 3600
        for extractor, each, missing in zip(extractors, clip_bytes, plan.missing, strict=True):
            clips = sum(_clips(plan.spans[i], plan.row, extractor.clip_rule) for i in missing)
            rows += clips
            size += round(clips * each)
            flops += clips * extractor.flops(plan.row.height, plan.row.width)
            shards += len(missing)
    return Estimate(videos, shards, rows, size, flops, frames, hours)


def _bytes_a_clip(extractor: Extractor[Any]) -> float:
    """Of all its rows, with their first and last frames."""
    axes = dict.fromkeys(spec.axis for spec in extractor.arrays)
    frames = sum(16 * extractor.rows_a_clip(axis) for axis in axes)
    return frames + sum(
        int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize * extractor.rows_a_clip(spec.axis)
        for spec in extractor.arrays
    )


def _clips(span: Span, row: ProbeRow, rule: ClipRule) -> int:
    """Clips that start in a span: those that start before its end less those before its start."""
    whole = clip_count(row.n_frames, rule)
    stop = whole if span.last else min(whole, -(-span.frame_stop // rule.stride))
    return stop - min(stop, -(-span.frame_start // rule.stride))
