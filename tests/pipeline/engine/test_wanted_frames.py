"""Only frames that clips need are read, and what else a task computes changes nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.drawn_tasks import Done, clips_of, drawn, expected_rows, null, run, video
from tests.footage import write_video
from vadpipe.extractors.footage.decode import FrameReader, read_frames
from vadpipe.extractors.footage.errors import CorruptFrames, SeekMismatch
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.footage.video import Frame, ProbeRow, Reading, in_order
from vadpipe.pipeline.engine.extractor_spec import ExtractorSpec


@pytest.mark.parametrize("policy", ["keep", "skip", "fail"])
def test_only_frames_that_clips_need_are_asked_for(policy: str, tmp_path: Path) -> None:
    """Of two extractors together; where damage matters, every frame has to be seen."""
    asked: list[int] = []

    def sparse(row: ProbeRow, start: int = 0, *, wanted: Any, **_: Any) -> FrameReader:
        reading = Reading()

        def frames() -> Iterator[Frame]:
            for number in range(start, 61):
                if wanted is None or number in wanted:
                    asked.append(number)
                    yield drawn(number)
            reading.passed = 61

        return FrameReader(row, frames(), reading)

    specs = [
        null(policy, clip_length=2, stride=16, before=1, after=0),
        null(policy, clip_length=1, stride=10, before=0, after=0),
    ]
    done = run(tmp_path, sparse, video(70), specs, 32)
    needed = {0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 49, *range(0, 61, 10)}
    assert set(asked) == (needed if policy == "keep" else set(range(61)))
    for number, spec in enumerate(specs):
        features = done.features(number)
        want = expected_rows(spec, clips_of(spec, 61))
        np.testing.assert_array_equal(features.arrays["statistics"][:], want)
        assert features.n_frames == 61, "frames that are left out are counted too"


# ---------------------------------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> ProbeRow:
    """MJPEG of 40 frames whose packet 31 is refused: no clip of every 16th frame needs it."""
    path = write_video(tmp_path_factory.mktemp("mjpeg") / "a.avi", frames=40, encoder="mjpeg")
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][31]
        stored = bytes(packet)
    path.write_bytes(path.read_bytes().replace(stored, bytes(len(stored))))
    return probe_video(path)


def decoding(row: ProbeRow, start: int = 0, *, wanted: Any, **_: Any) -> FrameReader:
    """The decoder in this process."""
    return read_frames(row, start, threads=1, wanted=wanted)


def extracted(cache: Path, row: ProbeRow, specs: list[ExtractorSpec]) -> Done:
    """What a run makes of a video: in order, where a seek turns out wrong."""
    try:
        return run(cache, decoding, row, specs, 1000)
    except SeekMismatch:
        return run(cache, decoding, in_order(row), specs, 1000)


def test_what_else_a_task_computes_changes_neither_rows_nor_damage(
    damaged: ProbeRow, tmp_path: Path
) -> None:
    """A dense extractor has every packet decoded, so the refused one is seen."""
    assert damaged.key_frames is not None and not damaged.flags
    few = null("skip", clip_length=1, stride=16, before=0, after=0)
    dense = null("keep", clip_length=4, stride=4, before=0, after=0)
    alone = extracted(tmp_path / "alone", damaged, [few])
    both = extracted(tmp_path / "both", damaged, [few, dense])
    ours, theirs = alone.features(), both.features()
    np.testing.assert_array_equal(ours.arrays["statistics"][:], theirs.arrays["statistics"][:])
    np.testing.assert_array_equal(ours.frame_start, theirs.frame_start)
    assert (ours.n_frames, ours.flags, ours.damaged) == (39, theirs.flags, 1)
    assert (theirs.n_frames, theirs.damaged) == (39, 1) and "corrupt_frames" in ours.flags
    assert alone.damaged() == both.damaged() == [1]


def test_damage_that_no_clip_needs_is_refused_too(damaged: ProbeRow, tmp_path: Path) -> None:
    few = null("fail", clip_length=1, stride=16, before=0, after=0)
    with pytest.raises(CorruptFrames, match="frame 31 is damaged"):
        extracted(tmp_path, damaged, [few])
