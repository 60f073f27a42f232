"""Regions: one schema, boxes that make sense, the boxes near a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vadpipe.pipeline.scores.regions import (
    REGION_SCHEMA,
    RegionError,
    Why,
    boxes_near,
    checked_regions,
    read_regions,
    regions_stamp,
    why_between,
    write_regions,
)


def boxes(**changes: Any) -> pa.Table:
    values: dict[str, Any] = {
        "score": [0.5, 0.9, 0.1],
        "frame": [9, 4, 9],
        "x0": [0.0, 1.0, 2.0],
        "y0": [0.0, 1.0, 2.0],
        "x1": [5.0, 6.0, 7.0],
        "y1": [5.0, 6.0, 7.5],
    } | changes
    return pa.table({name: column for name, column in values.items() if column is not None})


def test_what_is_written_is_read_sorted_by_frame(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    assert read_regions(path) is None and regions_stamp(path) is None
    write_regions(path, boxes(label=["car", None, "bike"]), "stamp")
    read = read_regions(path)
    assert read is not None and read.schema.equals(REGION_SCHEMA) and regions_stamp(path) == "stamp"
    assert read["frame"].to_pylist() == [4, 9, 9]
    assert read["score"].to_pylist() == [0.9, 0.5, 0.1]
    assert read["label"].to_pylist() == [None, "car", "bike"]
    assert read["track_id"].to_pylist() == read["explain"].to_pylist() == [None] * 3
    write_regions(path, None, "stamp")
    assert not path.exists()


def test_no_boxes_are_a_file_without_rows(tmp_path: Path) -> None:
    write_regions(tmp_path / "v.parquet", boxes().slice(0, 0), "stamp")
    read = read_regions(tmp_path / "v.parquet")
    assert read is not None and read.num_rows == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x1": None}, "have to have the columns"),
        ({"colour": [1, 2, 3]}, "not: .*colour"),
        ({"frame": ["a", "b", "c"]}, "another type"),
        ({"frame": [1.5, 2.0, 3.0]}, "another type"),
        ({"score": [1.0, None, 2.0]}, "nulls in score"),
        ({"score": [1.0, np.nan, 2.0]}, "score is not finite"),
        ({"y1": [1.0, np.inf, 2.5]}, "y1 is not finite"),
        ({"x1": [0.0, 6.0, 7.0]}, "empty box"),
        ({"frame": [-1, 2, 3]}, "negative frame"),
    ],
)
def test_what_are_no_regions_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RegionError, match=message):
        checked_regions(boxes(**changes))
    pq.write_table(boxes(**changes), tmp_path / "v.parquet")
    with pytest.raises(RegionError, match=rf"is damaged .*{message}.*run score again"):
        read_regions(tmp_path / "v.parquet")


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "v.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert regions_stamp(tmp_path / "v.parquet") == ""
    with pytest.raises(RegionError, match=r"is damaged.*run score again"):
        read_regions(tmp_path / "v.parquet")


@pytest.mark.parametrize(
    ("frame", "start", "stop", "found", "scores"),
    [
        (9, 0, 20, 9, [0.5, 0.1]),
        (7, 0, 20, 9, [0.5, 0.1]),
        (6, 0, 20, 4, [0.9]),
        (6, 5, 20, 9, [0.5, 0.1]),
        (6, 5, 9, 6, []),
    ],
)
def test_boxes_of_the_nearest_frame(
    frame: int, start: int, stop: int, found: int, scores: list[float]
) -> None:
    at, near = boxes_near(checked_regions(boxes()), frame, start, stop)
    assert (at, near["score"].to_pylist()) == (found, scores)


def test_the_reason_of_an_event_is_that_of_its_highest_explained_box() -> None:
    words = ["a car moves fast", None, "it is late"]
    explain = ["fast", None, "late"]
    table = checked_regions(boxes(label=["car", None, None], explain=explain, words=words))
    first = why_between(table, 0, 20)
    assert first == Why("frame 9, box 0, 0 to 5, 5 (car): fast", "a car moves fast")
    assert why_between(table, 9, 10) == first
    assert why_between(table, 4, 9) == why_between(table, 30, 40) == Why()
    other = checked_regions(boxes(explain=["fast", "large", "late"]))  # as older versions wrote it
    assert why_between(other, 0, 20) == Why("frame 4, box 1, 1 to 6, 6: large", None)
