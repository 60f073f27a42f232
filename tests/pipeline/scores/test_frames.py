"""Frames as runs: the same as frame by frame, in memory that does not grow with frames."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.pipeline.scores.frames import MetricsError, expand_to_frames, expand_to_runs

WINDOWS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 20), st.sampled_from([-1.0, 0.0, 0.1, 0.3, 2.0])),
    min_size=1,
    max_size=30,
)


@given(WINDOWS)
def test_runs_are_the_frames(windows) -> None:
    start, length, score = (np.array(each) for each in zip(*windows, strict=True))
    stop = start + length
    first, lengths, values = expand_to_runs(start, stop, score)
    assert first == start.min() and (lengths > 0).all() and (np.diff(values) != 0).all()
    frames = expand_to_frames(start, stop, score, first, int(stop.max()))
    assert (np.repeat(values, lengths) == frames).all()


def test_memory_is_that_of_the_windows() -> None:
    tracemalloc.start()
    first, lengths, values = expand_to_runs([5, 1 << 39], [10, (1 << 39) + 5], [1.0, 2.0])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (first, lengths.sum(), values.tolist()) == (5, (1 << 39), [1.0, 2.0])
    assert lengths[0] == 5 + ((1 << 39) - 10 + 1) // 2 and peak < 1_000_000


def test_nothing_is_no_run() -> None:
    with pytest.raises(MetricsError, match="no window"):
        expand_to_runs([], [], [])
    with pytest.raises(MetricsError, match="a window is empty"):
        expand_to_runs([3], [3], [1.0])
