"""Clips that do not fit into memory are refused before a frame is decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.drawn_tasks import drawing, null, run, video
from vadpipe.data_manifests.memory import OutOfMemory
from vadpipe.extractors.footage.errors import OverLimit
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.extractors.null import NullFeatures
from vadpipe.pipeline.engine import clip_memory
from vadpipe.pipeline.engine.clip_memory import BESIDE, check_clips, clip_bytes, out_of_memory
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor

NULL = null()
LIMITS = DecodeLimits()


def sized(height: int, width: int) -> ProbeRow:
    return ProbeRow("/a.gif", "s1-0", "video", 99, False, 25.0, height, width, 0, 4.0, "gif", "gif")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 GiB, of which 32 are left."""
    monkeypatch.setattr(clip_memory, "available_bytes", lambda: 32 << 30)
    monkeypatch.setattr(clip_memory, "total_bytes", lambda: 64 << 30)


def test_large_frames_are_over_the_limit_that_can_be_raised() -> None:
    gif = sized(8191, 8191)
    message = r"clips of 18 frames of 8191 x 8191 pixels need .*--limit clip_memory=N"
    with pytest.raises(OverLimit, match=message):
        check_clips(gif, [NULL], LIMITS, 1)
    with pytest.raises(OutOfMemory, match="34,359,738,368 are left"):
        check_clips(gif, [NULL], DecodeLimits(clip_memory=1 << 50), 1)


def test_footage_in_4k_passes_with_all_extractors_of_plain_arithmetic() -> None:
    for name in ("null", "frames"):
        check_clips(sized(2160, 4096), [resolve_extractor(name)], LIMITS, 4)


def test_extractors_clips_and_streams_count() -> None:
    frame = 1000 * 1000 * 3
    one = clip_bytes([NULL], 1000, 1000)
    assert one - BESIDE == frame * (
        4 + 18 + 18 * 10
    )  # in flight, waiting, two clips and their copies
    assert clip_bytes([NULL, NULL], 1000, 1000) == one + frame * 18 * 10
    long = null(clip_length=400)
    check_clips(sized(1000, 1000), [null()], LIMITS, 64 << 30 // one)
    with pytest.raises(OutOfMemory, match=r"in each of 200 streams.*--streams 1"):
        check_clips(sized(1000, 1000), [null()], LIMITS, 200)
    with pytest.raises(OverLimit, match="clips of 402 frames"):
        check_clips(sized(1000, 1000), [long], LIMITS, 1)


def test_nothing_is_decoded_of_a_video_that_is_refused(tmp_path: Path) -> None:
    def decoder(*_: object, **__: object) -> None:
        pytest.fail("the decoder was started")

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(OutOfMemory, match="10 are left"),
    ):
        patch.setattr(clip_memory, "available_bytes", lambda: 10)
        run(tmp_path, decoder, video(20), [NULL], 10)  # type: ignore[arg-type]


def test_memory_that_runs_out_is_a_failure_of_the_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def extract(*_: object) -> None:
        np.empty(1 << 62, np.uint8)

    monkeypatch.setattr(NullFeatures, "extract", extract)
    message = r"/drawn\.mp4: memory ran out over frames of 3 x 2 pixels \(Unable to.*--streams 1"
    with pytest.raises(OutOfMemory, match=message):
        run(tmp_path, drawing(20), video(20), [NULL], 10)


@pytest.mark.parametrize(
    ("error", "typed"),
    [
        (MemoryError("much"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("shapes differ"), False),
        (OutOfMemory("it says more itself"), False),
        (OverLimit("can't allocate memory"), False),
    ],
)
def test_a_lack_of_memory_is_one_error_whatever_found_it(
    error: MemoryError | RuntimeError, typed: bool
) -> None:
    found = out_of_memory(error, sized(2, 3))
    assert (found is not None) is typed
    assert found is None or str(found).startswith("/a.gif: memory ran out over frames of 3 x 2")
