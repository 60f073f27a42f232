"""Boxes on thumbnails: where they are drawn, which one is marked, what the page says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.score_folders import rows, write_score_folder
from vadpipe.pipeline.report.boxes import HIGHEST, MOST, OTHERS, EventBoxes, draw_boxes
from vadpipe.pipeline.report.stage import write_report
from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.scores.regions import boxes_near, checked_regions

EVENT: dict[str, Any] = {"frame_start": 0, "frame_stop": 40, "peak_frame": 20}
BLACK = np.zeros((48, 64, 3), np.uint8)


def regions(*boxes: tuple[int, float, float, float, float, float]) -> pa.Table:
    names = ("frame", "x0", "y0", "x1", "y1", "score")
    table = pa.table(dict(zip(names, map(list, zip(*boxes, strict=True)), strict=True)))
    return checked_regions(table.append_column("label", [["<b>car"] * len(boxes)]))


TWO = regions((20, 10, 5, 30, 25, 0.2), (20, 40, 5, 60, 25, 0.9), (3, 0, 0, 5, 5, 7.0))


@pytest.fixture
def folder(tmp_path: Path) -> ScoreFolder:
    """One video with an event at its middle, and boxes."""
    score = rows([0, 0, 9, 9, 0, 0])
    normal = {f"n{i}": rows(np.arange(9) / 9) for i in range(5)}
    return write_score_folder(tmp_path / "out", {"v": replace(score, regions=TWO)}, normal)


def test_boxes_are_outlines_and_the_highest_is_marked() -> None:
    _, boxes = boxes_near(TWO, 20, 0, 40)
    drawn = draw_boxes(BLACK, boxes)
    for x, y in ((10, 5), (29, 5), (10, 24), (29, 24)):
        assert tuple(drawn[y, x]) == OTHERS, "left, top, and one before right and bottom"
    for x, y in ((40, 5), (59, 5), (40, 24), (59, 24)):
        assert tuple(drawn[y, x]) == HIGHEST
    assert not drawn[15, 20].any() and not drawn[30, :].any() and not BLACK.any()


def test_boxes_beyond_the_picture_are_cut() -> None:
    outside = regions((0, -1e30, -5, 1e30, 1e9, 0.5), (0, 100, 100, 101, 101, 0.4))
    assert draw_boxes(BLACK, outside).shape == BLACK.shape
    many = regions(*[(0, 1, 1, 2 + i % 40, 3, float(i)) for i in range(MOST + 5)])
    assert draw_boxes(BLACK, boxes_near(many, 0, 0, 1)[1]).any()


def test_notes_count_the_boxes(folder: ScoreFolder) -> None:
    boxes = EventBoxes(folder)
    boxes.open("v", [EVENT, {**EVENT, "peak_frame": 7}])
    assert boxes.notes["v", 20] == "Boxes: 2; the marked one scores 0.9 (<b>car)."
    assert "1 in frame 3, the nearest to the peak that has any" in boxes.notes["v", 7]
    assert boxes.draw(20, BLACK).any() and boxes.draw(21, BLACK) is BLACK
    boxes.open("v", [{**EVENT, "frame_start": 30, "peak_frame": 35}])
    assert boxes.notes["v", 35] == "Boxes: none in this event."
    assert boxes.draw(35, BLACK) is BLACK and boxes.draw(20, BLACK) is BLACK
    boxes.open("w", [{**EVENT, "peak_frame": 1}])
    assert ("w", 1) not in boxes.notes


def test_the_page_shows_them_and_survives_a_damaged_file(folder: ScoreFolder) -> None:
    page = write_report(folder.path).read_text(encoding="utf-8")
    assert "Boxes: 2 in frame 20" in page and "(&lt;b&gt;car)" in page and "<b>car" not in page
    (folder.path / "regions" / "v.parquet").write_bytes(b"PAR1")
    page = write_report(folder.path).read_text(encoding="utf-8")
    assert "No boxes. " in page and "is damaged" in page


def test_a_page_of_another_column(tmp_path: Path) -> None:
    normal = {f"n{i}": rows(np.arange(9) / 9, near=np.arange(9) / 9) for i in range(5)}
    scores = {"v": rows([0.0] * 6, near=[0, 0, 9, 9, 0, 0])}
    folder = write_score_folder(tmp_path / "out", scores, normal)
    page = write_report(folder.path, column="near").read_text(encoding="utf-8")
    assert "score column near" in page and "v-e1" in page
    page = write_report(folder.path).read_text(encoding="utf-8")
    assert "score column" not in page and "v-e1" not in page
