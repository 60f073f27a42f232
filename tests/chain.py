"""Videos that are drawn instead of decoded, and chains of extractors over them, task by task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vadpipe.extractors.base import Runtime
from vadpipe.extractors.footage.decode import FrameReader
from vadpipe.extractors.footage.video import Frame, ProbeRow, Reading
from vadpipe.pipeline.engine import span_task
from vadpipe.pipeline.engine.extractor_spec import ExtractorSpec, resolve_extractor, stores_of
from vadpipe.pipeline.engine.planning import VideoPlan, jobs_of, plan_videos
from vadpipe.pipeline.engine.settings import Engine
from vadpipe.pipeline.engine.span_task import run_job
from vadpipe.pipeline.extract import upstream_of
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.probe_table import Probed

SIZE = (4, 6)
FRAMES = resolve_extractor("frames", {"size": SIZE})
Reader = Callable[..., FrameReader]


def video(n_frames: int, content: str = "s1-" + "ab" * 20) -> ProbeRow:
    """What a header says of a video that is nowhere."""
    return ProbeRow(
        "/drawn.mp4", content, "video", n_frames, False, 25.0, *SIZE, 0, n_frames / 25,
        "h264", "mov",
    )  # fmt: skip


def drawn(number: int, *, corrupt: bool = False) -> Frame:
    """A frame of noise of its own."""
    image = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
    return Frame(number, number / 25, image, corrupt)


def drawing(n: int, bad: Iterable[int] = ()) -> Reader:
    """A decoder that gives n drawn frames, some of them damaged."""
    damaged = set(bad)

    def guarded_frames(row: ProbeRow, start: int = 0, **_: Any) -> FrameReader:
        def frames() -> Iterator[Frame]:
            for number in range(start, n):
                yield drawn(number, corrupt=number in damaged)

        return FrameReader(row, frames(), Reading())

    return guarded_frames


def no_decoder(*_: Any, **__: Any) -> FrameReader:
    """For extractors that read no footage."""
    raise AssertionError("footage was opened")


def derived(source: FeatureStore, **options: Any) -> ExtractorSpec:
    """The extractor null on a pixel source, with a frame of context on both sides."""
    policy = options.pop("on_corrupt", "keep")
    config = {"clip_length": 4, "stride": 3, **options}
    return resolve_extractor("null", config, source=source, on_corrupt=policy)


def plans_of_chain(
    cache: Path, row: ProbeRow, specs: Sequence[ExtractorSpec], span_frames: int
) -> list[VideoPlan]:
    """What is to be done for one video."""
    probed = Probed({"v": row})
    upstream = upstream_of(specs, probed, [cache])
    return plan_videos(probed, stores_of(specs, cache), span_frames, upstream)


def run_chain(
    cache: Path,
    row: ProbeRow,
    specs: Sequence[ExtractorSpec],
    span_frames: int,
    reader: Reader = no_decoder,
) -> list[FeatureStore]:
    """Run all tasks of one video, one after another."""
    stores = stores_of(specs, cache)
    for store in stores:
        store.create()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(span_task, "guarded_frames", reader)
        for plan in plans_of_chain(cache, row, specs, span_frames):
            for job in jobs_of(plan, specs, cache, Engine(), Runtime("cpu", 1)):
                run_job(job)
    return stores
