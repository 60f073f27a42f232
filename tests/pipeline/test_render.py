"""vadpipe render: films that are read back: frames, times, chapters, cursor, boxes, refusals."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.page_folders import FPS, ScoreFolder, spiky
from vadpipe.detectors.plain_words import USUAL
from vadpipe.extractors.footage.errors import DecodeError
from vadpipe.extractors.footage.probe_file import probe_video
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.films import encoder
from vadpipe.pipeline.films.encoder import FilmError, codec_for
from vadpipe.pipeline.films.panel import CAPTION, CURSOR, CURVE, EVENT, Panel
from vadpipe.pipeline.render import BOX, HIGH_BOX, render_video
from vadpipe.pipeline.scores.regions import write_regions

FRAMES = 64


def grey_film(path: Path, times: list[float]) -> Path:
    """A film of a plain grey picture, 96 x 64, shown at these times."""
    tick = Fraction(1, 1000)
    with av.open(str(path), "w", format="mp4") as out:
        stream: Any = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = tick
        for seconds in times:
            picture = np.full((64, 96, 3), 100, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(seconds / tick), tick
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def scored(root: Path, film: Path, score: np.ndarray, **more: Any) -> ScoreFolder:
    folder = ScoreFolder(root / "scores")
    row = probe_video(film)
    facts = {"path": str(film), "content_id": row.content_id, "height": 64, "width": 96}
    folder.add("cam1", score, step=8, **facts, **more)
    return folder


def read(path: Path) -> tuple[list[float], list[np.ndarray], list[tuple[float, float, str]]]:
    """Times, pictures and chapters of a film."""
    with av.open(str(path)) as film:
        assert not film.streams.audio
        frames = [(float(f.time), f.to_ndarray(format="rgb24")) for f in film.decode(video=0)]
        chapters = [
            (
                float(each["start"] * each["time_base"]),
                float(each["end"] * each["time_base"]),
                each["metadata"]["title"],
            )
            for each in film.chapters()
        ]
    return [t for t, _ in frames], [p for _, p in frames], chapters


def boxes(path: Path, frame: int, score: float, **why: list[str]) -> None:
    corner = {"x0": [24.0], "y0": [16.0], "x1": [72.0], "y1": [48.0]}
    table = {"frame": [frame], **corner, "score": [score], "label": ["bicycle"]}
    write_regions(path, pa.table({**table, **why}), "")


@pytest.mark.parametrize("end", ["mp4", "webm"])
def test_a_film_has_all_frames_their_times_and_events_as_chapters(tmp_path: Path, end: str) -> None:
    film = grey_film(tmp_path / "yard.mp4", [i / FPS for i in range(FRAMES)])
    folder = scored(tmp_path, film, spiky(8, 3))  # rows of 8 frames: the event is 24 to 48
    boxes(folder.path / "regions" / "cam1.parquet", 32, 5.0)
    out = tmp_path / f"film.{end}"
    done = render_video(folder.write(), "cam1", out)
    assert (done.frames, done.events, done.overlay) == (FRAMES, 1, "boxes")
    times, pictures, chapters = read(out)
    assert times == pytest.approx([i / FPS for i in range(FRAMES)], abs=1e-3)
    ends = [0.0, 24 / FPS, 48 / FPS, 64 / FPS]
    assert [each[2] for each in chapters] == ["no event", f"event 1 of 1: {USUAL}", "no event"]
    assert [each[0] for each in chapters] == pytest.approx(ends[:-1], abs=2e-3)
    assert [each[1] for each in chapters] == pytest.approx(ends[1:], abs=2e-3)
    height = 320  # 96 x 64 becomes 480 x 320
    assert pictures[0].shape == (height + CURVE + CAPTION, 480, 3)
    for frame in (0, 20, 63):  # the cursor is where the frame is, and moves
        row = pictures[frame][height + CURVE - 2].astype(int).sum(axis=1)
        assert abs(int(row.argmax()) - (frame + 0.5) / FRAMES * 480) <= 3
    # The box is there at its frame, above the threshold in red, and nowhere else.
    top = slice(80 - 2, 80 + 3), slice(200, 300)
    assert np.abs(pictures[32][top].astype(int) - HIGH_BOX).sum(axis=2).min() < 90
    for frame in (0, 31, 40):
        assert np.abs(pictures[frame][top].astype(int) - 100).max() < 40
    assert not [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def test_a_film_says_why_in_words_or_in_numbers(tmp_path: Path) -> None:
    film = grey_film(tmp_path / "yard.mp4", [i / FPS for i in range(FRAMES)])
    folder = scored(tmp_path, film, spiky(8, 3))
    why = {"explain": ["speed 4.1"], "words": ["a bicycle moves faster than usual"]}
    boxes(folder.path / "regions" / "cam1.parquet", 32, 5.0, **why)
    said, pictures = [], []
    for numbers in (False, True):
        out = tmp_path / f"{numbers}.mp4"
        render_video(folder.write(), "cam1", out, numbers=numbers)
        _, shown, chapters = read(out)
        said.append(chapters[1][2])
        pictures.append(shown[33].astype(int))
    assert said[0] == "event 1 of 1: a bicycle moves faster than usual"
    assert said[1] == "event 1 of 1, peak 5: frame 32, box 24, 16 to 72, 48 (bicycle): speed 4.1"
    assert np.abs(pictures[0] - pictures[1]).max() > 50, "the score of the box and of the frame"


def test_a_film_of_a_varying_rate_keeps_its_times(tmp_path: Path) -> None:
    steps = np.where(np.arange(FRAMES) % 8 == 7, 0.5, 0.04)
    times = np.concatenate([[0.0], np.cumsum(steps)[:-1]])
    film = grey_film(tmp_path / "yard.mp4", times.tolist())
    folder = scored(tmp_path, film, spiky(8, 3))
    out = tmp_path / "film.mp4"
    done = render_video(folder.write(), "cam1", out)
    found, _, chapters = read(out)
    assert found == pytest.approx(times.tolist(), abs=2e-3)
    assert done.seconds == pytest.approx(times[-1], abs=2e-3)
    assert chapters[1][:2] == pytest.approx((times[24], times[48]), abs=3e-3)


def test_an_image_folder_becomes_a_film_with_its_map(tmp_path: Path) -> None:
    from vadpipe.extractors.footage.guarded import guarded_probe

    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(16):
        Image.fromarray(np.full((64, 96, 3), 100, np.uint8)).save(folder / f"{i:02d}.png")
    row = guarded_probe(folder)
    made = ScoreFolder(tmp_path / "scores")
    facts = {"path": str(folder), "content_id": row.content_id, "kind": "images"}
    made.add("cam1", np.array([0.5, 5.0]), step=8, maps=["m"], **facts)
    out = tmp_path / "film.mp4"
    done = render_video(made.write(), str(folder), out)
    assert (done.frames, done.overlay, done.video_id) == (16, "map m", "cam1")
    _, pictures, _ = read(out)
    colours = pictures[4][:320].reshape(-1, 3).astype(int)
    assert (colours.max(axis=0) - colours.min(axis=0)).max() > 60, "the map colours grey pictures"
    plain = render_video(made.path, "cam1", out, overlay="none")
    assert plain.overlay == "none"
    picture = read(out)[1][4][20:300]
    assert int(picture.max()) - int(picture.min()) < 30


def test_an_id_that_is_also_a_path_is_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = grey_film(tmp_path / "yard.mp4", [i / FPS for i in range(16)])
    folder = scored(tmp_path, film, spiky(2, 0)).write()
    (tmp_path / "here").mkdir()
    grey_film(tmp_path / "here" / "cam1", [0.0, 0.1])
    monkeypatch.chdir(tmp_path / "here")
    assert render_video(folder, "cam1", tmp_path / "film.mp4").frames == 16
    monkeypatch.chdir(tmp_path)
    assert render_video(folder, "yard.mp4", tmp_path / "film.mp4").frames == 16, "its path"


def test_what_cannot_be_rendered_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = grey_film(tmp_path / "yard.mp4", [i / FPS for i in range(FRAMES)])
    folder = scored(tmp_path, film, spiky(8, 3))
    folder.add("bare", spiky(8, 3), path="")
    path, out = folder.write(), tmp_path / "film.mp4"
    for video, why in (("cam9", "was not scored: .* holds cam1"), ("bare", "no footage")):
        with pytest.raises(FilmError, match=why):
            render_video(path, video, out)
    with pytest.raises(FilmError, match=r"a film ends in .mp4 or .webm"):
        render_video(path, "cam1", tmp_path / "film.avi")
    with pytest.raises(FilmError, match="is the footage itself"):
        render_video(path, "cam1", film)
    for overlay, why in (("boxes", "has no boxes of 'cam1'"), ("map", "has no maps of 'cam1'")):
        with pytest.raises(FilmError, match=why):
            render_video(path, "cam1", out, overlay=overlay)
    monkeypatch.setattr(encoder.av, "codecs_available", {"libvpx-vp9"})
    with pytest.raises(FilmError, match=r"write none of libx264.*ends in .webm"):
        codec_for(out)
    monkeypatch.undo()
    monkeypatch.setattr(encoder.av, "codecs_available", {"mpeg4"})
    assert codec_for(out) == "mpeg4"
    grey_film(film, [i / FPS for i in range(FRAMES + 1)])  # another film under the same name
    with pytest.raises(DecodeError, match="not the file that was scored"):
        render_video(path, "cam1", out)
    assert not out.exists()


def test_damaged_footage_leaves_no_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = grey_film(tmp_path / "yard.mp4", [i / FPS for i in range(FRAMES)])
    folder = scored(tmp_path, film, spiky(8, 3))
    out = tmp_path / "film.mp4"

    def broken(self: Panel, frame: int, seconds: float) -> Any:
        raise DecodeError("it ends here")

    monkeypatch.setattr(Panel, "at", broken)
    with pytest.raises(DecodeError):
        render_video(folder.write(), "cam1", out)
    assert not out.exists() and not list(tmp_path.glob(".film*"))


def test_the_codec_that_there_is_writes_the_same_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = grey_film(tmp_path / "yard.mp4", [i / FPS for i in range(FRAMES)])
    folder = scored(tmp_path, film, spiky(8, 3))
    monkeypatch.setattr(encoder.av, "codecs_available", {"mpeg4"})
    words = ["render", str(folder.write()), str(film), "-o", str(tmp_path / "film.mp4")]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert "MPEG-4 Part 2, as this build of FFmpeg has no H.264" in done.output
    assert "the sound of the footage, if it has any, is left out" in done.output
    times, _, chapters = read(tmp_path / "film.mp4")
    assert len(times) == FRAMES and len(chapters) == 3
    assert times == pytest.approx([i / FPS for i in range(FRAMES)], abs=2e-3)


def test_the_panel_draws_curve_threshold_events_and_cursor() -> None:
    lengths, values = np.array([24, 24, 16]), np.array([0.0, 4.0, 1.0])
    event = {"frame_start": 24, "frame_stop": 48, "said": "event \x1b[31m" + "w" * 5000}
    panel = Panel(640, 0, lengths, values, 2.0, [event], "cam1")
    assert [panel.score(frame) for frame in (0, 23, 24, 47, 48, 63, 900)] == [0, 0, 4, 4, 1, 1, 1]
    picture = panel.at(32, 1.28)
    assert picture.shape == (CURVE + CAPTION, 640, 3)
    assert (picture[CURVE - 1, panel.x(32)] == CURSOR).all()
    assert (picture[2, panel.x(30)] == EVENT).all() and not (picture[2, panel.x(10)] == EVENT).all()
    assert panel.y(4.0) < panel.y(2.0) < panel.y(0.0) < CURVE
    inside, outside = panel.at(30, 0)[CURVE:], panel.at(2, 0)[CURVE:]
    assert not np.array_equal(inside, outside), "the caption is that of the event"
    flat = Panel(480, 0, np.array([1]), np.array([1.0]), None, [], "one frame")
    assert flat.at(0, 0.0).shape == (CURVE + CAPTION, 480, 3)
    assert BOX != HIGH_BOX
