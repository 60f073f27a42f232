"""Windows of MSMG and the frames that they score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vadpipe.detectors.msmg_placing import Placing, window_starts


@pytest.mark.parametrize(
    ("n", "stride", "starts"),
    [
        (10, 1, [0, 1, 2, 3, 4]),
        (10, 3, [0, 3, 4]),
        (10, 4, [0, 4]),
        (6, 4, [0]),
        (4, 1, [-1]),
        (1, 2, [-2]),
    ],
)
def test_windows_reach_the_last_frame(n: int, stride: int, starts: list[int]) -> None:
    assert window_starts(n, 6, stride).tolist() == starts


def placing(n: int, stride: int, placement: Any) -> Placing:
    return Placing(n, 6, window_starts(n, 6, stride), placement)


def test_the_centre_has_the_score_and_between_is_interpolated() -> None:
    ours = placing(14, 4, "centre")  # windows begin at 0, 4, 8; centres are 3, 7, 11
    found = ours.spread(np.array([1.0, 3.0, 2.0]), np.array([3, 3, 3]))
    expected = [1, 1, 1, 1, 1.5, 2, 2.5, 3, 2.75, 2.5, 2.25, 2, 2, 2]
    assert found.tolist() == pytest.approx(expected)
    assert ours.nearest(np.zeros(3, int)).tolist() == [0] * 6 + [1] * 4 + [2] * 4


def test_the_worst_frame_has_the_score_and_the_highest_counts() -> None:
    ours = placing(10, 2, "worst")  # windows begin at 0, 2, 4
    found = ours.spread(np.array([1.0, 5.0, 3.0]), np.array([4, 2, 4]))  # frames 4, 4, 8
    assert found.tolist() == pytest.approx([5, 5, 5, 5, 5, 4.5, 4, 3.5, 3, 3])
    assert ours.nearest(np.array([4, 1, 4])).tolist() == [1] * 4 + [0] * 3 + [2] * 3


def test_all_frames_of_a_window_have_its_score() -> None:
    ours = placing(10, 4, "cover")  # windows begin at 0, 4
    found = ours.spread(np.array([1.0, 2.0]), np.array([1, 1]))
    assert found.tolist() == [1] * 4 + [2] * 6


@pytest.mark.parametrize("placement", ["centre", "worst", "cover"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_short_videos_have_one_window(n: int, placement: str) -> None:
    ours = placing(n, 4, placement)
    assert ours.spread(np.array([2.5]), np.array([3])).tolist() == [2.5] * n
    assert ours.nearest(np.array([3])).tolist() == [0] * n
