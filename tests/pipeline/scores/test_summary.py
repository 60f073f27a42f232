"""The table of events says why, where the detector makes boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.score_folders import FPS, rows, write_score_folder
from vadpipe.pipeline.scores.events import EVENT_SCHEMA, EventConfig, EventThresholds, Threshold
from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.scores.summary import Summary, write_summary

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
    explained = pa.table({**box, "explain": ["fast"]})
    silent = pa.table({**box, "frame": [60]})
    both = {"a": replace(odd, regions=explained), "b": replace(odd, regions=silent)}
    return write_score_folder(path, both, None)


def test_events_have_the_reason_of_their_box(tmp_path: Path) -> None:
    folder = scored(tmp_path / "out")
    assert summary(folder, regions=True).events == 2
    first, second = folder.events()
    assert first["explain"] == "frame 30, box 1, 2 to 3, 4: fast" and second["explain"] is None
    assert first["start_s"] == 24 / FPS


def test_without_boxes_the_table_is_as_it_was(tmp_path: Path) -> None:
    folder = scored(tmp_path / "out")
    assert summary(folder, regions=False).events == 2
    assert pq.read_schema(folder.path / "events.parquet").equals(EVENT_SCHEMA)


def test_damaged_boxes_are_the_failure_of_their_video(tmp_path: Path) -> None:
    folder = scored(tmp_path / "out")
    (path,) = (folder.path / "regions").rglob("b.parquet")
    path.write_bytes(b"no parquet")
    done = summary(folder, regions=True)
    assert done.videos == ["a"] and [failure.video_id for failure in done.failures] == ["b"]
    assert "run score again" in done.failures[0].message
