"""Columns other than "score": threshold and events from the held-out rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.score_folders import rows, write_score_folder
from vadpipe.pipeline.scores.columns import events_of, threshold_of, warnings_of
from vadpipe.pipeline.scores.events import Calibration
from vadpipe.pipeline.scores.folder import ScoreFolder, ScoreFolderError

HIGH = [0.0] * 4 + [9.0] * 4 + [0.0] * 4
NORMAL = {f"n{i}": rows(np.arange(9), near=np.arange(9) / 10) for i in range(3)}
SCORES = {"v": rows([1.0] * 12, near=HIGH)}


@pytest.fixture
def folder(tmp_path: Path) -> ScoreFolder:
    return write_score_folder(tmp_path / "out", SCORES, NORMAL)


def test_another_column_has_a_threshold_and_events_of_its_own(folder: ScoreFolder) -> None:
    assert events_of(folder, "score") == folder.events() == []
    assert threshold_of(folder, "score") == folder.threshold()
    rows_of_column = [np.arange(9) / 10] * 3
    expected = Calibration.from_scores(rows_of_column, method="").threshold(0.99).value
    assert threshold_of(folder, "near") == expected
    (event,) = events_of(folder, "near")
    assert (event["video_id"], event["event_id"]) == ("v", "v-e1")
    assert (event["frame_start"], event["frame_stop"], event["peak_score"]) == (32, 64, 9.0)
    assert (event["scene"], event["scene_trained"]) == (None, None)
    table = pq.read_table(folder.path / "videos.parquet").drop_columns(["scene", "scene_trained"])
    table = table.append_column("scene", pa.array(["gate"]))
    pq.write_table(
        table.append_column("scene_trained", pa.array([False])), folder.path / "videos.parquet"
    )
    (event,) = events_of(folder, "near")
    assert (event["scene"], event["scene_trained"]) == ("gate", False)
    assert "rests on 3 normal videos only" in " ".join(warnings_of(folder, "near"))


def test_without_held_out_rows_there_is_no_threshold(folder: ScoreFolder) -> None:
    folder.write_held_out(None)
    assert threshold_of(folder, "near") is None and events_of(folder, "near") == []
    assert warnings_of(folder, "near") == [
        "there are no held-out rows of column near, so no threshold and no event"
    ]


def test_a_column_that_is_not_there_is_an_error(folder: ScoreFolder) -> None:
    with pytest.raises(ScoreFolderError, match="no score column 'far'; it has: score, near"):
        folder.scores("v", "far")
    with pytest.raises(ScoreFolderError, match="no score column 'frame_start'"):
        folder.scores("v", "frame_start")


def test_settings_of_events_that_make_no_sense_are_an_error(folder: ScoreFolder) -> None:
    folder.write_run({**folder.run(), "events": {"quantile": 7}})
    with pytest.raises(ScoreFolderError, match="events are not settings"):
        events_of(folder, "near")


def test_doubts_about_held_out_rows_are_those_of_every_column(folder: ScoreFolder) -> None:
    run = folder.run()
    stated = {**run["threshold"], "calibration": {"warnings": ["a camera is new"]}}
    folder.write_run({**run, "threshold": stated})
    assert "a camera is new" in warnings_of(folder, "near")
