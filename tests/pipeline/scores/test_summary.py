"""The tables of a score folder: why events are some, where there are boxes, and by scene."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.score_folders import FPS, rows, write_score_folder
from vadpipe.pipeline.exports.videos import read_videos
from vadpipe.pipeline.scores.columns import limit_of
from vadpipe.pipeline.scores.events import EventConfig, EventThresholds, Threshold
from vadpipe.pipeline.scores.folder import ScoreFolder, ScoreFolderError
from vadpipe.pipeline.scores.summary import (
    Summary,
    new_scene_lines,
    own_threshold_lines,
    write_summary,
)
from vadpipe.pipeline.scores.video_tables import EVENT_TABLE

HIGH = EventThresholds(Threshold(0.99, 0.5), Threshold(0.95, 0.5), "quantile 0.99")


def summary(folder: ScoreFolder, *, regions: bool) -> Summary:
    row = {video["video_id"]: video for video in folder.videos()}
    videos = [(name, lambda part, known=known: known) for name, known in row.items()]
    return write_summary(
        folder, "test", ["score"], videos, HIGH, EventConfig(), regions=regions, stage="score"
    )


def scored(path: Path) -> ScoreFolder:
    """Two videos with an event in frames 24 to 48; only one of them has a box there."""
    box = {"frame": [30], "x0": [1.0], "y0": [2.0], "x1": [3.0], "y1": [4.0], "score": [1.0]}
    odd = rows([0, 0, 0, 1, 1, 1, 0, 0])
    explained = pa.table({**box, "explain": ["fast"], "words": ["a car moves fast"]})
    silent = pa.table({**box, "frame": [60]})
    both = {"a": replace(odd, regions=explained), "b": replace(odd, regions=silent)}
    return write_score_folder(path, both, None)


def test_events_have_the_reason_of_their_box(tmp_path: Path) -> None:
    folder = scored(tmp_path / "out")
    assert summary(folder, regions=True).events == 2
    first, second = folder.events()
    assert first["explain"] == "frame 30, box 1, 2 to 3, 4: fast" and second["explain"] is None
    assert first["words"] == "a car moves fast" and second["words"] is None
    assert first["start_s"] == 24 / FPS


def test_without_boxes_the_table_is_as_it_was(tmp_path: Path) -> None:
    folder = scored(tmp_path / "out")
    assert summary(folder, regions=False).events == 2
    assert pq.read_schema(folder.path / "events.parquet").equals(EVENT_TABLE)


def test_events_say_their_camera_and_whether_the_model_knows_it(tmp_path: Path) -> None:
    folder = scored(tmp_path / "out")
    row = {video["video_id"]: video for video in folder.videos()}
    known = {"a": {**row["a"], "scene": "gate"}, "b": {**row["b"], "scene": "yard"}}
    videos = [(name, lambda part, each=each: each) for name, each in known.items()]
    asked = folder, "test", ["score"], videos, HIGH, EventConfig()
    write_summary(*asked, regions=True, trained_scenes=["gate"], stage="score")
    said = [(e["video_id"], e["scene"], e["scene_trained"]) for e in folder.events()]
    assert said == [("a", "gate", True), ("b", "yard", False)]
    assert folder.events()[0]["explain"], "other columns stay"
    found = {v.video_id: (v.scene, v.scene_trained) for v in read_videos(folder)}
    assert found == {"a": ("gate", True), "b": ("yard", False)}
    path = folder.path / "events.parquet"
    table = pq.read_table(path)
    wrong = pa.array([b"x", b"y"])
    pq.write_table(table.set_column(table.column_names.index("scene"), "scene", wrong), path)
    with pytest.raises(ScoreFolderError, match="a scene that is no text"):
        folder.events()


def test_damaged_boxes_are_the_failure_of_their_video(tmp_path: Path) -> None:
    folder = scored(tmp_path / "out")
    (path,) = (folder.path / "regions").rglob("b.parquet")
    path.write_bytes(b"no parquet")
    done = summary(folder, regions=True)
    assert done.videos == ["a"] and [failure.video_id for failure in done.failures] == ["b"]
    assert "run score again" in done.failures[0].message


# --- scenes ----------------------------------------------------------------------------------

LOUD = EventThresholds(Threshold(0.99, 2.0), Threshold(0.95, 2.0), "quantile 0.99")
BY_SCENE = replace(HIGH, scenes={"loud": LOUD})


def test_each_video_has_the_threshold_of_its_scene_and_says_if_that_is_new(tmp_path: Path) -> None:
    scores = [0, 0, 0, 1, 1, 1, 0, 0]
    folder = write_score_folder(tmp_path / "out", {name: rows(scores) for name in "abcd"}, None)
    scenes = {"a": "quiet", "b": "loud", "c": "new", "d": None}
    known = {
        video["video_id"]: {**video, "scene": scenes[video["video_id"]]}
        for video in folder.videos()
    }
    videos = [(name, lambda part, row=row: row) for name, row in known.items()]
    done = write_summary(
        *(folder, "test", ["score"], videos, BY_SCENE, EventConfig()),
        trained_scenes=["quiet", "loud"],
        stage="score",
    )
    assert [event["video_id"] for event in folder.events()] == ["a", "c", "d"]
    found = {
        video["video_id"]: (video["scene"], video["scene_trained"]) for video in folder.videos()
    }
    assert found == {
        "a": ("quiet", True),
        "b": ("loud", True),
        "c": ("new", False),
        "d": (None, None),
    }
    assert done.new_scenes == {"new": 1}
    (line,) = new_scene_lines({"new_scenes": done.new_scenes})
    assert "new (1)" in line and "train on normal footage" in line
    folder.write_run({**folder.run(), "threshold": BY_SCENE.to_json()})
    limit = limit_of(folder, "score")
    assert limit is not None and limit.rule == "quantile 0.99"
    assert [limit.of(name) for name in "abcd"] == [0.5, 2.0, 0.5, 0.5]


def test_a_model_that_knows_no_scene_calls_none_new(tmp_path: Path) -> None:
    folder = write_score_folder(tmp_path / "out", {"a": rows([0, 1])}, None)
    (video,) = folder.videos()
    done = write_summary(
        *(folder, "test", ["score"], [("a", lambda part: {**video, "scene": "gate"})], None),
        EventConfig(),
        stage="score",
    )
    assert not done.new_scenes and folder.videos()[0]["scene_trained"] is None
    assert new_scene_lines(folder.run()) == [] == new_scene_lines({"new_scenes": [3]})


def test_thresholds_of_scenes_that_are_none_are_refused(tmp_path: Path) -> None:
    folder = write_score_folder(tmp_path / "out", {"a": rows([0, 1])}, None)
    for scenes in ([1], {"gate": 3}, {"gate": {"high": "x"}}):
        folder.write_run({"threshold": {"high": 1.0, "scenes": scenes}})
        with pytest.raises(ScoreFolderError, match="thresholds of scenes are no numbers"):
            folder.run()


def test_scenes_with_a_threshold_of_their_own_are_listed() -> None:
    (line,) = own_threshold_lines({"threshold": BY_SCENE.to_json()})
    assert "loud 2;" in line
    assert own_threshold_lines({"threshold": HIGH.to_json()}) == [] == own_threshold_lines({})
