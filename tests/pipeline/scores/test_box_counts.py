"""Boxes a frame: kept with the model, compared when footage is scored, shown on the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests import synthetic
from vadpipe.data_manifests.record import Manifest
from vadpipe.detectors.base import Bag, Track
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.extract import extract_features
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.probe import probe_files
from vadpipe.pipeline.report.stage import write_report
from vadpipe.pipeline.score import Scored, score_footage
from vadpipe.pipeline.scores.box_counts import (
    NOTE,
    ROLE,
    RUN,
    SCENES,
    BoxCounts,
    boxes_a_frame,
    count_in,
    far_from,
    noted_mean,
    usual_in,
)
from vadpipe.pipeline.scores.folder import ScoreFolder, ScoreFolderError
from vadpipe.pipeline.train import train_detector

HEAD = "video,frame,x0,y0,x1,y1\n"


def bag(counts: list[int] | None, scene: str | None = None) -> Bag:
    at = np.arange(0 if counts is None else len(counts))
    tracks = {} if counts is None else {ROLE: Track(np.array(counts, np.int32), at, at + 1)}
    return Bag("v", None, 9, 25.0, tracks, scene=scene)


def test_the_mean_of_training_is_that_of_its_videos() -> None:
    assert boxes_a_frame(bag([1, 2, 0])) == 1
    assert noted_mean([bag([1, 2, 0]), bag([3])]) == {NOTE: 2.0}
    assert noted_mean([bag([1]), bag([])]) == {NOTE: 1.0}, "a video without frames counts nothing"
    assert noted_mean([bag(None)]) == noted_mean([bag([])]) == noted_mean([]) == {}


def test_three_times_as_many_or_as_few_are_far() -> None:
    counts = {"a": 2.0, "b": 7.0, "c": 7.1, "d": 0.3, "e": 0.4, "f": 90.0}
    assert list(far_from(2.0, counts)) == ["f", "d", "c"]
    assert far_from(0.1, {"a": 0.4}) == {}, "hardly any boxes in both"


def test_a_camera_is_compared_with_its_own_training() -> None:
    """A street has many boxes, a door few: neither is far from the mean of both."""
    facts = noted_mean([bag([9], "street"), bag([7], "street"), bag([1], "door"), bag([1])])
    assert facts == {NOTE: 4.5, SCENES: {"door": 1.0, "street": 8.0}}
    assert noted_mean([bag([9], "street"), bag([1])]) == {NOTE: 5.0}, "one camera is all there is"
    scenes = {"a": "street", "b": "door", "c": "new", "d": None}
    usual = usual_in(facts, scenes)
    assert usual == {"a": 8.0, "b": 1.0}
    counts = {"a": 9.0, "b": 9.0, "c": 5.0, "d": 0.5}
    assert list(far_from(4.5, counts, usual)) == ["b", "d"]
    far = BoxCounts.of(4.5, {"a": 30.0}, usual)
    assert far is not None and "(a 30.0)" in far.warning
    assert usual_in({SCENES: {"street": "many"}}, scenes) == usual_in({SCENES: 3}, scenes) == {}


@pytest.mark.parametrize("value", [True, "2", -1, float("nan"), float("inf"), None, [1]])
def test_what_is_no_count_counts_nothing(value: Any) -> None:
    assert count_in({NOTE: value}) is None


def test_what_is_printed() -> None:
    alone = BoxCounts.of(None, {"a": 1.0, "b": 2.0})
    assert alone is not None
    assert alone.lines() == ["boxes a frame: 1.5 (1.0 to 2.0 by video)"]
    far = BoxCounts.of(0.5, {f"v{i}": 9.0 for i in range(12)})
    assert far is not None and far.about() == "training 0.5, 9.0 to 9.0 by video"
    assert far.warning.startswith("boxes a frame are far from training in 12 videos (v0 9.0, ")
    assert "v9 9.0): look" in far.warning
    assert BoxCounts.of_run({RUN: far.model_dump(mode="json")}) == far
    assert BoxCounts.of(0.5, {}) is BoxCounts.of_run({}) is None


def boxes_file(folder: Path, per_frame: Mapping[str, int]) -> str:
    rows = [
        f"{video},{frame},{9 * i},5,{9 * i + 8},15"
        for video, count in per_frame.items()
        for frame in range(0, 40, 10)
        for i in range(count)
    ]
    path = folder / "boxes.csv"
    path.write_text(HEAD + "\n".join(rows) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest, Path, str]:
    """A model of 1 and 3 boxes a frame, and test videos of 2 and 9."""
    root = tmp_path_factory.mktemp("boxes")
    manifest = synthetic.build(write_tiny_scene(root / "scene", n_train=2, n_test=2))
    per_frame = {"train/train_01": 1, "train/train_02": 3, "test/test_01": 2, "test/test_02": 9}
    boxes = boxes_file(root, per_frame)
    settings = {"detector": "boxes", "stride": 10, "flow": "dis"}
    cache = root / "cache"
    spec = resolve_extractor("objects", settings, weights=boxes, cache=cache)
    probed = probe_files(manifest, cache)
    assert not extract_features(manifest, probed, [spec], cache).failures
    model = train_detector("speed_peak", manifest, probed, cache).folder
    return cache, manifest, model, boxes


def scored(world: tuple[Path, Manifest, Path, str], out: Path, *videos: str) -> Scored:
    cache, manifest, model, boxes = world
    records = tuple(r for r in manifest.records if r.video_id in videos)
    chosen = manifest.model_copy(update={"records": records})
    return score_footage(model, chosen, probe_files(chosen, cache), out, cache, weights=boxes)


def test_new_footage_with_far_more_boxes_is_a_warning_everywhere(
    world: tuple[Path, Manifest, Path, str], tmp_path: Path
) -> None:
    assert ModelFolder(world[2]).card()["trained_on"][NOTE] == 2.0
    usual = scored(world, tmp_path / "usual", "test_01")
    assert usual.boxes is not None
    assert usual.boxes.lines() == ["boxes a frame: 2.0 (training 2.0, 2.0 to 2.0 by video)"]
    done = scored(world, out := tmp_path / "out", "test_01", "test_02")
    assert done.boxes is not None
    line, warning = done.boxes.lines()
    assert line == "boxes a frame: 5.5 (training 2.0, 2.0 to 9.0 by video)"
    assert warning.startswith("warning: boxes a frame are far from training in 1 video (test_02 ")
    run = json.loads((out / "run.json").read_text())
    assert run[RUN] == done.boxes.model_dump(mode="json") and run[RUN]["videos"] == 2
    page = write_report(out, manifest=world[1]).read_text()
    assert "Boxes: boxes a frame are far from training in 1 video (test_02 9.0)" in page
    assert "training 2.0, 2.0 to 9.0 by video" in page
    again = scored(world, out, "test_01", "test_02")
    assert again.fresh == 0 and again.boxes == done.boxes, "counts are kept with the scores"


def test_a_model_that_states_no_count_compares_nothing(
    world: tuple[Path, Manifest, Path, str], tmp_path: Path
) -> None:
    card = ModelFolder(world[2]).path / "config.json"
    text = card.read_text()
    values = json.loads(text)
    del values["trained_on"][NOTE]
    card.write_text(json.dumps(values))
    try:
        done = scored(world, tmp_path / "out", "test_02")
    finally:
        card.write_text(text)
    assert done.boxes is not None and done.boxes.training is None
    assert done.boxes.lines() == ["boxes a frame: 9.0 (9.0 to 9.0 by video)"]


@pytest.mark.parametrize(
    "change", [{"mean": "9"}, {"mean": -1}, {"videos": 0}, {"warning": 3}, {"extra": 1}]
)
def test_damaged_counts_are_an_error(
    change: dict[str, Any], world: tuple[Path, Manifest, Path, str], tmp_path: Path
) -> None:
    scored(world, out := tmp_path / "out", "test_01")
    run = json.loads((out / "run.json").read_text())
    run[RUN] |= change
    (out / "run.json").write_text(json.dumps(run))
    with pytest.raises(ScoreFolderError, match=r"run.json: boxes is not a count of boxes"):
        ScoreFolder(out).run()
