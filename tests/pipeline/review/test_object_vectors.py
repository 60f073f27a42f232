"""Objects at the peaks of events: closed forms, and what may not change them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.score_folders import rows, write_score_folder
from vadpipe.pipeline.review.object_vectors import FASTEST, WORDS, _motion, object_vectors
from vadpipe.pipeline.review.similar import closest, similar_events
from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.scores.regions import checked_regions

ODD = rows([0, 0, 0, 1, 0, 0, 0, 1])  # of 8 frames each
PEAKS = (24, 56)


def boxes(*objects: tuple[str, float, float, float]) -> pa.Table:
    """An object (label, left, width, speed to the right in pixels a frame) at each peak."""
    found: list[dict[str, Any]] = []
    for peak, (label, left, width, speed) in zip(PEAKS, objects, strict=True):
        for frame in (peak - 1, peak, peak + 1):
            x0 = left + (frame - peak) * speed
            corners = {"x0": x0, "y0": 40.0, "x1": x0 + width, "y1": 60.0}
            found.append({"frame": frame, **corners, "score": 1.0, "label": label})
    return pa.table({name: [box[name] for box in found] for name in found[0]})


PERSON, CAR = ("person", 2.0, 10.0, 0.5), ("car", 70.0, 24.0, 4.0)


def scored(path: Path, scale: float = 1.0) -> ScoreFolder:
    tables = {"a": boxes(PERSON, CAR), "b": boxes(CAR, PERSON)}
    for name, table in tables.items():
        for side in ("x0", "y0", "x1", "y1"):
            at = table.column_names.index(side)
            table = table.set_column(at, side, pa.array(table[side].to_numpy() * scale))
        tables[name] = table
    both = {name: replace(ODD, regions=table) for name, table in tables.items()}
    return write_score_folder(path, both, None)


def events() -> list[dict[str, Any]]:
    spans = [("a", PEAKS[0]), ("a", PEAKS[1]), ("b", PEAKS[0]), ("b", PEAKS[1])]
    return [
        {"video_id": v, "peak_frame": at, "frame_start": at, "frame_stop": at + 8}
        for v, at in spans
    ]


def videos(folder: ScoreFolder, scale: float = 1.0) -> dict[str, dict[str, Any]]:
    size = {"width": 100 * scale, "height": 60 * scale, "fps": 25.0}
    return {row["video_id"]: {**row, **size} for row in folder.videos()}


def test_like_finds_like_across_videos(tmp_path: Path) -> None:
    folder = scored(tmp_path / "out")
    vectors, known, words, _ = object_vectors(folder, videos(folder), events())
    assert known == [0, 1, 2, 3]
    assert words == [WORDS[name] for name in ("kind", "size", "place", "motion")]
    near = closest(vectors, 8)
    assert near == [[[3, 1.0]], [[2, 1.0]], [[1, 1.0]], [[0, 1.0]]]
    # Each of the four groups has the total variance 1.
    assert np.allclose((vectors**2).sum(1).mean(), 4.0)


def test_the_size_of_the_picture_does_not_count(tmp_path: Path) -> None:
    small, large = scored(tmp_path / "one"), scored(tmp_path / "two", scale=3.0)
    one, *_ = object_vectors(small, videos(small), events())
    two, *_ = object_vectors(large, videos(large, 3.0), events())
    assert np.allclose(one, two, atol=1e-5)  # boxes are stored in float32


def test_motion_is_in_heights_a_second() -> None:
    table = checked_regions(boxes(PERSON, CAR))
    at = {frame: table.filter(pa.array(table["frame"].to_numpy() == frame)) for frame in PEAKS}
    assert _motion(table, 24, at[24], 25.0) == pytest.approx([0.5 * 25 / 20, 0.0])
    assert _motion(table, 56, at[56], 25.0) == pytest.approx([4.0 * 25 / 20, 0.0])
    fast = _motion(table, 56, at[56], 250.0)
    assert fast == pytest.approx([FASTEST, 0.0])
    alone = at[24]
    assert _motion(alone, 24, alone, 25.0) == [0.0, 0.0]
    assert _motion(table, 24, at[24], 0.5) == [0.0, 0.0]  # boxes two seconds apart


def test_events_without_boxes_and_damaged_files_are_left_out(tmp_path: Path) -> None:
    folder = scored(tmp_path / "out")
    asked = events()
    asked[0].update(peak_frame=3, frame_start=0, frame_stop=8)
    _, known, _, damaged = object_vectors(folder, videos(folder), asked)
    assert (known, damaged) == ([1, 2, 3], [])
    (path,) = (folder.path / "regions").rglob("b.parquet")
    path.write_bytes(b"damaged")
    _, known, _, damaged = object_vectors(folder, videos(folder), asked)
    assert (known, damaged) == ([1], ["b"])
    found = similar_events(
        folder, {}, list(videos(folder).values()), {"a": 0, "b": 1}, asked, None, 9
    )
    assert (found["near"], found["by"]) == ([], "")
    assert "no picture" in found["reason"] or "no cache" in found["reason"]
    said = "Boxes or scores of 1 video cannot be read (b)."
    assert found["reason"].endswith(f". {said}")
    found = similar_events(
        folder, {}, list(videos(folder).values()), {"a": 0, "b": 1}, events(), None, 9
    )
    assert found["video"] == [0, 0], "the others are compared by their boxes"
    assert found["reason"].startswith("No box was found in it, or ") and said in found["reason"]


def test_the_page_compares_objects_where_there_are_boxes(tmp_path: Path) -> None:
    folder = scored(tmp_path / "out")
    table = list(videos(folder).values())
    found = similar_events(folder, {}, table, {"a": 0, "b": 1}, events(), None, 9)
    assert found["video"] == [0, 0, 1, 1] and found["at"] == [24, 56, 24, 56]
    assert [[k for k, _ in near] for near in found["near"]] == [[3], [2], [1], [0]]
    assert found["by"] == "what it is, how large it is, where it is, how it moves"
    few = similar_events(folder, {}, table, {"a": 0, "b": 1}, events(), None, 2)
    assert few["at"] == [24, 56] and few["near"] == [[], []]  # a person and a car


def test_likeness_is_of_the_mean_square_distance() -> None:
    """Points on a line, by hand: squares of distances 1, 81, 100, mean 60.7."""
    near = closest(np.array([[0.0], [1.0], [10.0]]), 2)
    mean = (1 + 100 + 81) / 3
    assert [[k for k, _ in each] for each in near] == [[1], [0], []]
    assert near[0][0][1] == pytest.approx(1 - 1 / mean, abs=1e-4)


def test_blocks_do_not_change_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 6))
    whole = closest(vectors, 4)
    monkeypatch.setattr("vadpipe.pipeline.review.similar.BLOCK", 7)
    assert closest(vectors, 4) == whole
    apart = ((vectors[:, None] - vectors) ** 2).sum(2)
    np.fill_diagonal(apart, np.inf)
    assert [each[0][0] for each in whole] == apart.argmin(1).tolist()
