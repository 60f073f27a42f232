"""Tasks over drawn frames: a decoder that is a function, and what a run makes of a video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Clip, ClipAssembler, Span
from vadpipe.extractors.footage.decode import FrameReader
from vadpipe.extractors.footage.video import Frame, ProbeRow, Reading, in_order
from vadpipe.extractors.null import NullConfig, NullFeatures
from vadpipe.pipeline.engine import span_task
from vadpipe.pipeline.engine.extractor_spec import ExtractorSpec, resolve_extractor, stores_of
from vadpipe.pipeline.engine.planning import jobs_of, plan_videos
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.engine.span_task import SpanResult, run_job
from vadpipe.pipeline.store.feature_store import FeatureStore, VideoFeatures
from vadpipe.pipeline.store.probe_table import Probed

RATE = 25.0
SMALL = (2, 3)  # of drawn frames
RUN = "this run"
Reader = Callable[..., FrameReader]


def video(n_frames: int, *, sequential: bool = False, content: str = "s1-" + "ab" * 20) -> ProbeRow:
    """What a header says of a video that is nowhere."""
    row = ProbeRow(
        "/drawn.mp4", content, "video", n_frames, False, RATE, *SMALL, 0, n_frames / RATE,
        "h264", "mov",
    )  # fmt: skip
    return in_order(row) if sequential else row


def drawn(number: int) -> Frame:
    """No two frames are alike."""
    image = np.full((*SMALL, 3), number % 251, np.uint8)
    image[0, 0] = (number * 7 % 256, number // 251, number * 3 % 256)
    return Frame(number, number / RATE, image)


def drawing(n: int, bad: Iterable[int] = (), *, on_frame: Callable[[int], Any] = int) -> Reader:
    """A decoder that gives n drawn frames, some of them damaged."""
    damaged = set(bad)

    def guarded_frames(row: ProbeRow, start: int = 0, **_: Any) -> FrameReader:
        def frames() -> Iterator[Frame]:
            for number in range(start, n):
                on_frame(number)
                yield replace(drawn(number), corrupt=number in damaged)

        return FrameReader(row, frames(), Reading())

    return guarded_frames


@dataclass
class Done:
    """All tasks of one video."""

    stores: list[FeatureStore]
    results: list[SpanResult]
    content: str

    def features(self, number: int = 0) -> VideoFeatures:
        return self.stores[number].read(self.content)

    def damaged(self) -> list[int]:
        """By the shards of the first extractor."""
        counts = []
        for path in self.stores[0].scan():
            with h5py.File(path) as file:
                counts.append(int(file.attrs["damaged"]))
        return counts


def run(
    cache: Path,
    reader: Reader,
    row: ProbeRow,
    specs: Iterable[ExtractorSpec],
    span_frames: int,
    runtime: Runtime | None = None,
    attempts: int = 1,
) -> Done:
    """What a run does, one task after another; of several attempts the last counts."""
    chosen = list(specs)
    stores = stores_of(chosen, cache)
    for store in stores:
        store.create()
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(span_task, "guarded_frames", reader)
        for plan in plan_videos(Probed({"v": row}), stores, span_frames):
            for job in jobs_of(plan, chosen, cache, Engine(), runtime or Runtime("cpu", 1), RUN):
                results.append([run_job(job) for _ in range(attempts)][-1])
    return Done(stores, results, row.content_id)


def null(policy: Any = "keep", **config: Any) -> ExtractorSpec:
    return resolve_extractor("null", config, on_corrupt=policy)


def clips_of(spec: ExtractorSpec, n: int) -> list[Clip]:
    """All clips of n drawn frames."""
    assembler = ClipAssembler(spec.make().clip_rule, Span("x", 0, n, True))
    return [c for i in range(n) for c in assembler.push(drawn(i))] + assembler.finish()


def expected_rows(spec: ExtractorSpec, clips: list[Clip]) -> Any:
    extractor = NullFeatures(NullConfig.model_validate(spec.config))
    return extractor.extract(clips)["snippet"].arrays["statistics"]
