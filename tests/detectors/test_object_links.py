"""Boxes linked from row to row: how long objects stay, and boxes in the frames between rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from vadpipe.detectors.object_links import fill_between, stays
from vadpipe.detectors.object_maps import Objects


def objects_of(boxes: dict[int, list[tuple[float, float, float, float]]]) -> Objects:
    every = np.arange(40, dtype=np.int64)
    row = np.array([t for t, found in boxes.items() for _ in found], np.int64)
    corners = np.array([box for found in boxes.values() for box in found], np.float64)
    return Objects(every, every + 1, (100, 100), row, corners.reshape(-1, 4))


def test_who_stands_stays_and_who_walks_does_not() -> None:
    still = (10.0, 10.0, 20.0, 30.0)
    boxes = {t: [still, (2.0 * t, 10.0, 2.0 * t + 10, 30.0)] for t in range(20)}
    seconds = stays(objects_of(boxes), 10.0).reshape(20, 2)
    passing = slice(3, 8)  # the walker crosses the one who stands: they may be exchanged
    assert seconds[-1, 0] == pytest.approx(1.9)
    assert seconds[8:, 1].max() < 0.4 and seconds[:3, 1].max() < 0.4
    assert seconds[passing].max() < 0.9


def test_a_short_gap_is_no_end_and_a_long_one_is() -> None:
    still = [(10.0, 10.0, 20.0, 30.0)]
    short = stays(objects_of({t: still for t in range(40) if not 10 <= t < 19}), 10.0)
    assert short[-1] == pytest.approx(3.9)
    long = stays(objects_of({t: still for t in range(40) if not 10 <= t < 22}), 10.0)
    assert long[-1] == pytest.approx(1.7)
    assert len(stays(objects_of({}), 10.0)) == 0


def regions_of(rows: list[tuple[int, float, float, str | None]]) -> pa.Table:
    """Boxes 10 x 20 at (x, 5), with a score and a reason."""
    frame, x, score, explain = zip(*rows, strict=True)
    left = np.array(x, np.float32)
    return pa.table(
        {
            "frame": np.array(frame, np.int64),
            **{"x0": left, "y0": np.full(len(x), 5, np.float32)},
            **{"x1": left + 10, "y1": np.full(len(x), 25, np.float32)},
            "score": np.array(score, np.float64),
            "explain": pa.array(explain, pa.string()),
        }
    )


def told(table: pa.Table) -> list[tuple[int, float, float, str | None]]:
    rows = table.to_pylist()
    assert all(row["x1"] == pytest.approx(row["x0"] + 10) for row in rows)
    return [(r["frame"], round(r["x0"], 3), round(r["score"], 3), r["explain"]) for r in rows]


def test_linked_boxes_move_in_a_straight_line() -> None:
    table = regions_of([(0, 10, 0.0, None), (3, 16, 3.0, "fast")])
    assert told(fill_between(table, np.array([0, 3]), 4)) == [
        *((0, 10, 0.0, None), (1, 12, 1.0, None), (2, 14, 2.0, "fast"), (3, 16, 3.0, "fast"))
    ]


def test_boxes_without_a_link_stay_for_half_of_the_way() -> None:
    table = regions_of([(0, 10, 1.0, "a"), (4, 90, 2.0, "b")])
    frames = [(row[0], row[3]) for row in told(fill_between(table, np.array([0, 4]), 5))]
    assert frames == [(0, "a"), (1, "a"), (2, "a"), (3, "b"), (4, "b")]
    alone = told(fill_between(table.slice(1), np.array([0, 4, 8]), 12))
    assert [row[0] for row in alone] == [3, 4, 5, 6]  # rows 0 and 8 were looked at


def test_boxes_of_the_last_row_stay_to_the_end_of_the_video_or_to_the_next_row() -> None:
    table, rows = regions_of([(3, 10, 1.0, "a")]), np.array([0, 3])
    assert [row[0] for row in told(fill_between(table, rows, 5))] == [2, 3, 4]
    assert [row[0] for row in told(fill_between(table, rows, 100))] == [2, 3, 4, 5]


def test_nothing_is_added_where_every_frame_was_looked_at_or_frames_were_skipped() -> None:
    table = regions_of([(0, 10, 1.0, "a"), (1, 10, 1.0, "a"), (9, 10, 1.0, "a")])
    assert fill_between(table, np.arange(10), 10) is table
    skipped = fill_between(table.slice(1), np.array([1, 3, 5, 9, 11]), 13)
    assert [row[0] for row in told(skipped)] == [1, 2, 9, 10]
    assert fill_between(table.slice(0, 0), np.array([0, 2]), 4).num_rows == 0
