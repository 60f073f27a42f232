"""Means of covering windows, against exact fractions: no score is lost beside larger ones."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vadpipe.pipeline.scores.exact_mean import covering_mean, covering_sum
from vadpipe.pipeline.scores.frames import expand_to_frames

N = 24
magnitude = st.builds(
    lambda sign, digits, power: sign * digits * 10.0**power,
    st.sampled_from([-1.0, 1.0]),
    st.floats(1.0, 10.0),
    st.integers(-30, 30),
)
window = st.tuples(st.integers(0, N - 1), st.integers(1, N), magnitude)


def exact(windows: list[tuple[int, int, float]], frame: int) -> float | None:
    """The mean over a frame, rounded once."""
    scores = [Fraction(score) for a, length, score in windows if a <= frame < a + length]
    return float(sum(scores) / len(scores)) if scores else None


def expanded(windows: list[tuple[int, int, float]], start: int = 0, stop: int = N) -> list[float]:
    first, length, score = (np.array(column) for column in zip(*windows, strict=True))
    return expand_to_frames(first, first + length, score, start, stop).tolist()


@given(st.lists(window, min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_a_mean_is_exact_beside_scores_of_any_size(windows):
    frames = expanded(windows)
    for frame in range(N):
        mean = exact(windows, frame)
        if mean is not None:
            assert frames[frame] == pytest.approx(mean, rel=1e-15, abs=0)


@given(st.lists(window, min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_frame_depends_on_its_own_windows_only(windows, draw):
    """Not on their order, on windows elsewhere or on the range that is asked for."""
    frames = expanded(windows)
    other = [*windows, (N, 5, 1e30), (N + 2, 9, -1e-30)]
    draw.shuffle(other)
    covered = [t for t in range(N) if exact(windows, t) is not None]
    assert [expanded(other, -3, N + 20)[t + 3] for t in covered] == [frames[t] for t in covered]
    if covered:
        t = covered[0]
        assert expanded(windows, t, t + 1) == [frames[t]]


@pytest.mark.parametrize("score", [0.1, 1.7e308, -1e-30, 5e-324, 0.0])
@pytest.mark.parametrize("times", [2, 3, 49])
def test_equal_scores_have_their_own_mean(score, times):
    assert set(expanded([(0, 5, score)] * times, 0, 5)) == {score}


def test_what_large_scores_have_left_is_not_lost():
    """A running sum of floats keeps 0 of the second score, and 2^-27 of the last."""
    windows = [
        (0, 4, 1e8),
        (2, 4, 1e8),
        (8, 8, 1e-9),
        (8, 8, 3e-9),
        (16, 8, -1e-30),
        (16, 8, 3e-30),
    ]
    frames = expanded(windows)
    assert frames[8] == 2e-9 and frames[20] == exact(windows, 20)


def test_many_windows():
    n = 200_000
    start = np.arange(n, dtype=np.int64)
    values = np.where(start % 2, 1e15, 1e-15)
    count = covering_sum(start, start + 2, np.ones(n, dtype=np.int64), n + 1)
    mean = covering_mean(start, start + 2, values, count)
    assert (mean[1:-1] == (1e15 + 1e-15) / 2).all() and mean[0] == 1e-15 and mean[-1] == 1e15


def test_places_without_a_window_are_zero():
    none = np.array([], dtype=np.int64)
    assert covering_mean(none, none, np.array([]), np.zeros(3, np.int64)).tolist() == [0, 0, 0]
