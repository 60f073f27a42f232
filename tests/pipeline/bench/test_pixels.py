"""Copies and sparse reading: every way takes all frames, and clips hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vadpipe.extractors.footage.decode import opened
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.pipeline.bench import pixels


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "SIZE", (32, 64))
    monkeypatch.setattr(pixels, "RESIZED", ((8, 14), (16, 30)))
    monkeypatch.setattr(pixels, "FRAMES", 50)


def test_every_way_is_measured(small: None, tmp_path: Path) -> None:
    values, lines = pixels.bench_pixels(tmp_path, 1)
    assert values["size"] == [32, 64] and values["frames"] == 50
    assert [len(values[what]) for what in ("copies", "reading")] == [2, 3]
    for what in ("copies", "reading"):
        assert all(0 < row["best"] <= row["median"] for row in values[what].values())
    assert "64x32" in lines[0] and len(lines) == 10
    sizes = [row["bytes"] for row in values["resizing"].values()]
    assert sizes == [32 * 64 * 3, 8 * 14 * 3, 32 * 64 * 3, 16 * 30 * 3]
    assert all(0 < row["reader"] < row["median"] for row in values["resizing"].values())


def test_the_new_way_copies_once(small: None, tmp_path: Path) -> None:
    """Into shared memory: the frames of a clip are views of it, with what was written last."""
    row = probe_video(pixels.write_moving(tmp_path / "a.mp4"), decode=True)
    steps = pixels._after(row)
    way = next(steps)
    given = [np.full((32, 64, 3), number, np.uint8) for number in range(50)]
    clips = [clip for number, picture in enumerate(given) for clip in way(number, picture)]
    assert len(clips) == 3 and not clips[0].frames.flags.writeable
    for clip in clips:
        np.testing.assert_array_equal(clip.frames[:, 0, 0, 0], clip.index)
    steps.close()


def test_the_drawn_video_has_frames_to_leave_out(small: None, tmp_path: Path) -> None:
    row = probe_video(pixels.write_moving(tmp_path / "a.mp4"), decode=True)
    assert row.n_frames == 50 and row.codec == "h264"
    with opened(Path(row.path), 1) as (container, stream):
        stream.codec_context.skip_frame = "NONREF"
        assert sum(1 for _ in container.decode(stream)) < 20
