"""Pictures and clips: the right frames, within their limits, and a reason where there are none."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.footage import moving_picture, write_video
from vadpipe.data_manifests.atomic import CannotWrite
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.extractors.footage.video import in_order
from vadpipe.pipeline.review import previews
from vadpipe.pipeline.review.previews import Shot, clip_span, draw_previews, encode_clip

RATE = 25


@given(
    st.integers(0, 5000), st.integers(1, 2000), st.floats(0, 1, exclude_max=True),
    st.sampled_from([1.0, 12.5, 25.0, 29.97]), st.floats(0.1, 20),
)  # fmt: skip
def test_a_clip_holds_the_peak_and_is_not_too_long(start, length, place, fps, seconds):
    stop, peak = start + length, start + int(place * length)
    n_frames = stop + 10
    a, b = clip_span(start, stop, peak, fps, n_frames, seconds)
    assert 0 <= a <= peak < b <= n_frames
    assert b - a <= max(1, round(seconds * fps))
    if length + 2 * round(fps) <= round(seconds * fps):
        assert a <= start and b >= stop  # all of it


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", frames=160)


def draw(film: Path, shots, out: Path, **options):
    row = probe_video(film)
    return draw_previews(film, row.content_id, row.whole_id, shots, out, **options)


def test_pictures_and_clips_show_their_frames(film: Path, tmp_path: Path):
    shots = [Shot(0, 120, 100, 150), Shot(7, 30, 30, 30), Shot(3, 5, 0, 25), Shot(4, 110, 90, 140)]
    seen: dict[int, np.ndarray] = {}
    done = draw(film, shots, tmp_path, use=lambda number, pixels: seen.update({number: pixels}))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0.jpg", "0.webm", "3.jpg", "3.webm", "4.jpg", "4.webm", "7.jpg",
    ]  # fmt: skip
    assert done[7].clip is None and done[7].picture and done[7].size == (96, 64)
    assert done[0].clip == (100, 150, 2) and done[3].clip == (0, 25, 2)
    for shot in shots:
        expected = moving_picture(shot.peak).astype(float)
        assert np.abs(seen[shot.number] - expected).mean() < 20
        with Image.open(tmp_path / f"{shot.number}.jpg") as image:
            assert np.abs(np.asarray(image).astype(float) - expected).mean() < 20
    for number, start in ((0, 100), (3, 0)):
        with av.open(str(tmp_path / f"{number}.webm")) as clip:
            assert clip.format.name == "matroska,webm"
            stream = clip.streams.video[0]
            assert stream.codec_context.name in ("vp9", "libvpx-vp9")
            frames = list(clip.decode(stream))
            assert len(frames) == (25 if number == 0 else 13)
            assert float(frames[1].pts * stream.time_base) == pytest.approx(2 / RATE, abs=0.002)
            for k in (0, 5, 12):
                expected = moving_picture(start + 2 * k).astype(float)
                others = moving_picture(start + 2 * k + 20).astype(float)
                got = frames[k].to_ndarray(format="rgb24").astype(float)
                assert np.abs(got - expected).mean() < np.abs(got - others).mean()


def test_footage_that_is_not_there_or_another_costs_pictures_only(film: Path, tmp_path: Path):
    shots = [Shot(0, 120, 100, 150)]
    done = draw_previews(None, "s1-0", "", shots, tmp_path)
    assert "only imported features" in done[0].reason
    done = draw_previews(tmp_path / "gone.mp4", "s1-0", "", shots, tmp_path)
    assert "MissingFile" in done[0].reason and not done[0].picture
    done = draw_previews(film, "s1-0", "", shots, tmp_path)
    assert "not the file that was scored" in done[0].reason
    done = draw(film, [Shot(0, 400, 380, 410)], tmp_path)
    assert done[0].reason and not done[0].picture and not list(tmp_path.iterdir())


def test_a_file_without_seeking_is_read_once_and_not_too_far(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(previews, "IN_ORDER_FRAMES", 100)
    row = in_order(probe_video(film))
    shots = [Shot(0, 120, 100, 150), Shot(1, 30, 20, 40), Shot(2, 80, 60, 100)]
    calls = []
    real = previews.guarded_frames

    def counted(row, a, b, **options):
        calls.append((a, b))
        return real(row, a, b, **options)

    monkeypatch.setattr(previews, "guarded_frames", counted)
    done = draw_previews(
        film, row.content_id, "", shots, tmp_path, probe=lambda path, hash_mode: row
    )
    assert calls == [(20, 100)]
    assert done[1].picture and done[2].picture and "beyond frame 100" in done[0].reason


def test_a_full_disk_is_no_reason_of_a_picture(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(path, write):
        raise CannotWrite("no room")

    monkeypatch.setattr(previews, "write_atomically", full)
    with pytest.raises(CannotWrite):
        draw(film, [Shot(0, 3, 0, 9)], tmp_path)


def test_odd_sizes_lose_a_row_or_column(tmp_path: Path):
    from fractions import Fraction

    frames = [np.full((33, 47, 3), 10 * k, np.uint8) for k in range(6)]
    encode_clip(tmp_path / "a.webm", frames, Fraction(12))
    with av.open(str(tmp_path / "a.webm")) as clip:
        (first, *rest) = clip.decode(video=0)
        assert (first.width, first.height) == (46, 32) and len(rest) == 5
