"""Clips in which one window plays fast: what is exchanged, and when."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.detectors.base import DetectorError, Scores
from vadpipe.pipeline.choosing.one_window import Windows, by_window, event_frames, mixed


def windows(highest: np.ndarray, stride: int = 1) -> Windows:
    start = np.arange(len(highest), dtype=np.int64) * stride
    return Windows(start, start + 1, highest)


def test_boxes_lie_in_the_window_of_their_middle() -> None:
    start = np.array([0, 3], np.int64)
    boxes = [
        # frame, x0, y0, x1, y1, score
        (0, 0, 0, 10, 10, 1.0),  # upper left
        (0, 2, 2, 6, 6, 5.0),  # there too, and higher
        (0, 15, 0, 27, 10, 2.0),  # its middle is right of the centre
        (1, 0, 0, 40, 20, 9.0),  # between the rows
        (3, 30, 12, 50, 30, 3.0),  # reaches over the border
    ]
    names = ("frame", "x0", "y0", "x1", "y1", "score")
    table = pa.table(dict(zip(names, map(list, zip(*boxes, strict=True)), strict=True)))
    scores = Scores(start, start + 1, {"score": np.zeros(2)}, regions=table)
    found = by_window(scores, (20, 40), (2, 2))
    assert found.highest.tolist() == [[5, 2, 0, 0], [0, 0, 0, 3]]


def test_a_detector_without_boxes_is_refused() -> None:
    start = np.zeros(1, np.int64)
    with pytest.raises(DetectorError, match="no boxes"):
        by_window(Scores(start, start + 1, {"score": np.zeros(1)}), (20, 40), (2, 2))


def test_the_stretch_is_in_the_middle_and_fits() -> None:
    assert event_frames((0, 120), 60, 6) == (30, 90)
    assert event_frames((0, 120), 40, 6) == (36, 76)
    assert event_frames((20, 40), 10, 1) == (25, 35)  # a clip that is the second half of a file
    assert event_frames((20, 40), 10, 4) == (24, 34)


def test_one_window_is_exchanged_and_the_others_are_not() -> None:
    clip = windows(np.array([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0], [7.0, 0.0]]))
    fast = windows(np.array([[9.0, 0.0], [0.0, 8.0]]))
    first, second = mixed(clip, fast, 1)
    assert first.tolist() == [4, 9, 6, 7]  # the right window stays
    assert second.tolist() == [4, 2, 8, 7]


@given(
    rows=st.integers(4, 30),
    stride=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 99),
    share=st.sampled_from([2, 3]),
)
def test_what_plays_as_the_clip_does_changes_nothing(
    rows: int, stride: int, seed: int, share: int
) -> None:
    highest = np.random.default_rng(seed).random((rows, 6))
    fast = rows // share
    start, stop = event_frames((0, rows * stride), fast * stride, stride)
    assert start >= 0 and stop <= rows * stride
    first = start // stride
    same = windows(highest[first : first + fast], stride)
    found = list(mixed(windows(highest, stride), same, start))
    assert len(found) == 6
    for each in found:
        np.testing.assert_array_equal(each, highest.max(1))
