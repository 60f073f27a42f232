"""MOT text: numbers as the format has them, velocities by hand, refusals by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vadpipe.pipeline.importing.files import FeatureFileError
from vadpipe.pipeline.importing.mot import SPECS, MotBoxes, read_mot


def read(tmp_path: Path, text: str) -> MotBoxes:
    path = tmp_path / "v.txt"
    path.write_text(text)
    return read_mot(path)


def test_lines_become_boxes_sorted_by_frame_and_score(tmp_path: Path) -> None:
    lines = ("2,7,10,20,4,6,0.5,-1,-1,-1", "1,3,0.5,0,10,10,-1", "", "2 9 1 2 3 4 0.75")
    found = read(tmp_path, "\n".join((*lines, "2,8,1,1,1,1,0", "3,9,1,2,3,4")))
    assert found.frame.tolist() == [0, 1, 1, 2]
    assert found.track.tolist() == [3, 9, 7, 9]  # the line with conf 0 is to be ignored
    assert found.score.tolist() == [1.0, 0.75, 0.5, 1.0]
    assert found.box[2].tolist() == [10, 20, 14, 26]
    assert len(read(tmp_path, "")) == 0


def test_rows_are_those_of_the_objects_extractor(tmp_path: Path) -> None:
    text = "1,1,-5,2,10,4\n1,2,50,0,10,10\n3,1,0,2,5,4\n3,3,39.5,0,9,9\n"
    rows = read(tmp_path, text).rows(4, (20, 40))
    assert set(rows) == {spec.axis for spec in SPECS}
    frame, objects = rows["frame"], rows["object"]
    assert {*frame.arrays, *objects.arrays} == {spec.name for spec in SPECS}
    assert frame.arrays["objects"].tolist() == [1, 0, 1, 0]  # outside, or half a pixel wide: gone
    assert frame.arrays["frame_size"].tolist() == [[20, 40]] * 4
    assert objects.arrays["boxes"].tolist() == [[0, 2, 5, 6], [0, 2, 5, 6]]
    assert objects.frame_start.tolist() == [0, 2] and objects.frame_stop.tolist() == [1, 3]
    for spec in SPECS:
        values = rows[spec.axis].arrays[spec.name]
        assert values.dtype == spec.dtype and values.shape[1:] == spec.shape


def test_velocity_is_that_of_centres_between_neighbours_of_a_track(tmp_path: Path) -> None:
    lines = [
        (1, 1, 0, 0, 4, 4),
        (2, 1, 2, 0, 4, 4),
        (4, 1, 8, 4, 4, 4),
        (30, 1, 0, 0, 4, 4),  # too far from the one before
        (2, 2, 5, 5, 2, 2),
    ]
    found = read(tmp_path, "".join(",".join(map(str, line)) + "\n" for line in lines))
    moved = {
        (int(f) + 1, int(t)): v.tolist()
        for f, t, v in zip(found.frame, found.track, found.velocity(), strict=True)
    }
    assert moved[1, 1] == [2, 0]
    assert moved[2, 1] == pytest.approx([8 / 3, 4 / 3])
    assert moved[4, 1] == [3, 2]
    assert moved[30, 1] == [0, 0] and moved[2, 2] == [0, 0]


def test_the_order_of_the_lines_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{f},{t},{rng.random():.3f},{f},3,4,0.5" for f in range(1, 9) for t in range(3)]
    one = read(tmp_path, "\n".join(lines))
    two = read(tmp_path, "\n".join(rng.permutation(lines)))
    np.testing.assert_array_equal(one.box, two.box)
    np.testing.assert_array_equal(one.velocity(), two.velocity())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,1,0,0,5", "5 values"),
        ("1,1,0,0,x,5", "could not convert"),
        ("0,1,0,0,5,5", "frames from 1"),
        ("1.5,1,0,0,5,5", "whole numbers"),
        ("1,-1,0,0,5,5,0.5", "without tracks"),
        ("1,1e21,0,0,5,5", "the id is above"),
        ("1_0,1,0,0,5,5", "underscore"),
        ("1,1,0,0,-5,5", "negative"),
        ("1,1,0,0,5,5,12", "scale it"),
        ("1,1,nan,0,5,5", "not finite"),
        ("1,4,1,1,2,2\n1,4,0,0,2,2", "line 3: track 4 has a second box in frame 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(FeatureFileError, match=rf"v\.txt, line [23].*{reason}|{reason}"):
        read(tmp_path, f"1,9,0,0,5,5\n{line}\n")
