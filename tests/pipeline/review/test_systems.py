"""Several systems on one page: numbers are those of the folders, other footage is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.browsers import Opened, chromium
from tests.pipeline.review.test_stage import data
from tests.score_folders import rows, write_score_folder
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.data_manifests.table import write_manifest
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.review.chunks import packed_floats
from vadpipe.pipeline.review.stage import write_review
from vadpipe.pipeline.review.systems import SystemsError
from vadpipe.pipeline.scores.folder import ScoreFolder, ScoreFolderError
from vadpipe.pipeline.scores.frames import expand_to_frames
from vadpipe.pipeline.scores.quantiles import QuantileMap
from vadpipe.pipeline.scores.same_footage import OtherFootageError

UNITS = {"one": 1.0, "two": 1000.0}  # scores of one system are a thousand times those of the other


def scored(path: Path, seed: int, **more: Any) -> Path:
    random = np.random.default_rng(seed)
    unit, step = UNITS.get(path.name, 1.0), more.pop("step", 8)
    values = {name: random.exponential(size=240 // step) for name in ("cam1", "cam2")}
    values["cam2"][5:9] += 9  # an event
    scores = {name: rows(unit * each, step) for name, each in values.items()}
    held_out = {"n": rows(unit * random.exponential(size=60))}
    write_score_folder(path, scores, held_out, **more)
    return path


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [scored(tmp_path / "one", 0), scored(tmp_path / "two", 1, step=12)]


def expected(path: Path, video_id: str, n: int = 240) -> np.ndarray:
    """The quantile of each frame's score, from the files of the folder."""
    folder = ScoreFolder(path)
    part, held_out = folder.scores(video_id), folder.held_out()
    assert held_out is not None
    columns = (part[name].to_numpy() for name in ("frame_start", "frame_stop", "score"))
    return QuantileMap(held_out.values("score"))(expand_to_frames(*columns, 0, n))


def unpacked(stored: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(stored["data"]), f"<{stored['kind']}").astype(np.float64)


def test_the_curves_are_the_quantiles_of_the_folders(two: list[Path], tmp_path: Path) -> None:
    page = write_review(two[0], tmp_path / "page", beside=two[1:])
    values, curves = data(page), data(page, "scores-0")["curves"]
    assert [system["name"] for system in values["systems"]] == ["one", "two"]
    for at, (path, system) in enumerate(zip(two, values["systems"], strict=True)):
        folder = ScoreFolder(path)
        held_out = folder.held_out()
        assert held_out is not None and system["scores"] == str(path)
        assert system["high"] == QuantileMap(held_out.values("score"))(folder.threshold())
        found = folder.events()
        assert found
        for video, curve in zip(values["videos"], curves, strict=True):
            stored = curve["systems"][at]
            frames = np.repeat(
                unpacked(stored["values"]), unpacked(stored["lengths"]).astype(np.int64)
            )
            assert stored["first"] == 0
            np.testing.assert_array_equal(frames, expected(path, video["id"]))
            spans = [
                [event["frame_start"], event["frame_stop"]]
                for event in sorted(found, key=lambda event: event["frame_start"])
                if event["video_id"] == video["id"]
            ]
            assert stored["events"] == spans
            # What is an event for the folder has a quantile that reaches the threshold's.
            for start, stop in spans:
                assert frames[start:stop].max() >= system["high"]


def test_a_page_of_one_system_has_none(two: list[Path], tmp_path: Path) -> None:
    page = write_review(two[0], tmp_path / "page")
    assert data(page)["systems"] == []
    assert "systems" not in data(page, "scores-0")["curves"][0]


def test_other_footage_and_folders_without_a_scale_are_refused(
    two: list[Path], tmp_path: Path
) -> None:
    other = scored(tmp_path / "three", 0, content="7")
    with pytest.raises(OtherFootageError, match="content_id of cam1"):
        write_review(two[0], tmp_path / "page", beside=[other])
    assert not (tmp_path / "page").exists()
    (two[1] / "calibration.parquet").unlink()
    with pytest.raises(SystemsError, match="run vadpipe score again"):
        write_review(two[0], tmp_path / "page", beside=two[1:])


def test_the_command_takes_several_folders_and_a_manifest(two: list[Path], tmp_path: Path) -> None:
    def call(*words: object) -> Any:
        return CliRunner().invoke(cli, ["report", *map(str, words)])

    done = call(*two, "--folder", tmp_path / "page")
    assert done.exit_code == 0, done.output
    assert len(data(Path(done.output.strip()))["systems"]) == 2
    manifest = tmp_path / "m.csv"
    records = (VideoRecord(video_id="cam1", path="cam1.mp4", split="test"),)
    write_manifest(Manifest(dataset="tiny", root="/none", records=records), manifest)
    done = call(two[0], manifest, "--folder", tmp_path / "other")
    assert done.exit_code == 0, done.output
    assert data(Path(done.output.strip()))["systems"] == []
    done = call(*two)
    assert done.exit_code == 2 and "--folder" in done.output
    assert call().exit_code == 2
    done = call(tmp_path, "--folder", tmp_path / "third")  # no score folder
    assert isinstance(done.exception, ScoreFolderError)


@pytest.mark.slow
def test_the_page_shows_the_numbers_and_switches_systems(two: list[Path], tmp_path: Path) -> None:
    page = write_review(two[0], tmp_path / "page", beside=two[1:])
    with chromium() as browser:
        opened = Opened(browser, page)
        tab = opened.go("#video/0/cam1")
        tab.wait_for_selector(".plot canvas")
        frames = [0, 100, 239]
        shown = tab.evaluate(
            "(frames) => frames.map((f) => vadpipe.app.detail.systems.at(f))", frames
        )
        for frame, systems in zip(frames, shown, strict=True):
            assert [each["name"] for each in systems] == ["one", "two"]
            for path, each in zip(two, systems, strict=True):
                assert each["quantile"] == expected(path, "cam1")[frame]
        assert not opened.said
        heights = tab.evaluate("[0, 0.9, 1].map(vadpipe.Systems.prototype.height)")
        assert heights[:2] == pytest.approx([0, 1]) and heights[2] < 16, "the lines of a plot end"
        # A picture with colours of both; without the second, its colour is gone.
        pixels = """() => { const c = document.querySelector(".plot canvas");
          const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; const seen = {};
          for (let i = 0; i < d.length; i += 4) if (d[i + 3] === 255) {
            const k = [d[i], d[i + 1], d[i + 2]].join(); seen[k] = (seen[k] || 0) + 1; }
          return seen; }"""
        colours = ["123,79,179", "29,138,122"]  # part0 and part1 of review.css
        before = tab.evaluate(pixels)
        assert all(before.get(colour, 0) > 50 for colour in colours)
        tab.locator(".systems input").nth(1).uncheck()
        after = tab.evaluate(pixels)
        assert after.get(colours[0], 0) > 50 and not after.get(colours[1])
        opened.close()


def test_packed_quantiles_keep_every_bit() -> None:
    values = QuantileMap([1.0, 2.0, 4.0])([0.5, 3.0, 5.0, 1e9, 1e16, 1.7e308])
    assert (values < 1).all()
    assert json.loads(json.dumps(packed_floats(values)))["kind"] == "f8"
    np.testing.assert_array_equal(unpacked(dict(packed_floats(values))), values)
