"""Runs of frames: joined, dropped and widened as one frame after another would be."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vadpipe.pipeline.scores.frame_runs import FrameTimes, joined, runs_above


def closed(inside: list[bool], gap: int) -> list[bool]:
    """Fill gaps of at most `gap` frames between frames that are inside, frame by frame."""
    filled, last = list(inside), None
    for i, here in enumerate(inside):
        if here:
            if last is not None and i - last - 1 <= gap:
                filled[last + 1 : i] = [True] * (i - last - 1)
            last = i
    return filled


def spans(inside: list[bool]) -> list[list[int]]:
    return runs_above(np.array([0, *inside, 0], float)[1:-1], 0.5).tolist()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=30),
    st.integers(0, 4),
    st.integers(0, 5),
    st.integers(0, 3),
)
def test_events_are_those_of_a_walk_over_the_frames(inside, gap, shortest, pad):
    found = joined(
        runs_above(np.array(inside, float), 0.5), FrameTimes(gap, shortest, pad), len(inside)
    )
    kept = [False] * len(inside)
    for a, b in spans(closed(inside, gap)):
        if b - a >= shortest:
            for i in range(max(a - pad, 0), min(b + pad, len(inside))):
                kept[i] = True
    assert found.tolist() == spans(kept)


def test_times_in_frames_have_no_dust_of_binary_numbers():
    times = FrameTimes.of(2.2, 2.2, 0.5, 25.0)
    assert (times.gap, times.shortest, times.pad) == (55, 55, 12)
