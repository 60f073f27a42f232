"""Moments: closed forms, and what holds for any score curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.score_folders import rows, write_score_folder
from vadpipe.pipeline.scores.columns import events_of
from vadpipe.pipeline.scores.events import EventConfig, EventError, find_events
from vadpipe.pipeline.scores.moments import MOST_OF_VIDEO, _outside, find_moments, top_moments


def moments(score, *, fps=10.0, apart=0.0, **options):
    frames = np.arange(len(score))
    return find_moments(frames, frames + 1, score, fps, apart_seconds=apart, **options)


def test_a_triangle_ends_half_way_to_the_median():
    score = np.zeros(101)
    score[40:61] = 10 - np.abs(np.arange(-10, 11))  # 0 up to 10 and down again
    (found,) = moments(score)
    assert (found.peak_frame, found.peak_score) == (50, 10.0)
    assert (found.frame_start, found.frame_stop) == (46, 55)  # frames above 5
    assert found.mean_score == pytest.approx(np.mean(score[46:55]))
    assert (found.start_s, found.end_s, found.peak_s) == (4.6, 5.5, 5.0)


def test_the_highest_first_apart_and_not_too_many():
    score = np.zeros(200)
    for at, height in ((20, 3.0), (60, 5.0), (64, 4.0), (100, 2.0), (140, 2.0)):
        score[at] = height
    assert [m.peak_frame for m in moments(score)] == [60, 64, 20]
    assert [m.peak_frame for m in moments(score, apart=0.3)] == [60, 64, 20]  # three frames between
    assert [m.peak_frame for m in moments(score, apart=0.4)] == [60, 20, 100]
    assert [m.peak_frame for m in moments(score, most=1)] == [60]
    assert [m.peak_frame for m in moments(score, outside=[(58, 66)])] == [20, 100, 140]
    assert [m.peak_frame for m in moments(score, apart=3.6, outside=[(58, 66)])] == [20, 140]


def test_a_shoulder_is_no_moment_and_nothing_is_one_where_all_is_equal():
    slope = np.concatenate([np.zeros(60), [9.0, 8.0, 4.0, 3.0, 2.0, 1.0], np.zeros(60)])
    assert [m.peak_frame for m in moments(slope)] == [60]
    assert moments(np.full(50, 7.0)) == []
    assert moments([3.0]) == []


def test_a_plateau_peaks_in_its_middle_and_edges_count():
    assert [m.peak_frame for m in moments([0.0] * 9 + [2.0] * 5 + [0.0] * 9)] == [11]
    assert [m.peak_frame for m in moments([5.0, *[0.0] * 9, 4.0])] == [0, 10]


def test_what_has_no_moments_is_an_error():
    with pytest.raises(EventError, match="without score rows"):
        moments([])
    with pytest.raises(EventError, match="not a positive number"):
        moments([1.0], fps=0.0)


@given(
    st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, 3.0]), min_size=1, max_size=120),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.integers(1, 5),
)
@settings(max_examples=200, deadline=None)
def test_any_curve(score, apart, most):
    score = np.array(score)
    frames = np.arange(len(score))
    config = EventConfig(merge_seconds=apart, min_seconds=0.3)
    events = find_events(frames, frames + 1, score, 10.0, 1.5, 0.7, config)
    outside = [(e.frame_start, e.frame_stop) for e in events]
    found = moments(score, apart=apart, outside=outside, most=most)
    assert len(found) <= most
    assert [m.peak_score for m in found] == sorted((m.peak_score for m in found), reverse=True)
    spans = outside + [(m.frame_start, m.frame_stop) for m in found]
    gap = int(apart * 10 + 1e-6)
    for m in found:
        inside = score[m.frame_start : m.frame_stop]
        assert m.peak_score == inside.max() == score[m.peak_frame] > np.median(score)
        assert m.frame_start <= m.peak_frame < m.frame_stop
        others = [s for s in spans if s != (m.frame_start, m.frame_stop)]
        assert all(a - m.frame_stop >= gap or m.frame_start - b >= gap for a, b in others)
    if not found:  # whatever is highest then lies in an event, or beside one
        near = np.zeros(len(score), bool)
        for a, b in outside:
            near[max(a - gap, 0) : b + gap] = True
        assert (near | (score <= np.median(score))).any() or not len(score)
        assert near[score.argmax()] or score.max() == np.median(score)


def test_a_folder_has_its_highest_moments_outside_of_events(tmp_path: Path):
    held_out = {f"n{k}": rows(np.linspace(0, 1, 100)) for k in range(5)}
    quiet, loud = np.zeros(60), np.zeros(60)
    quiet[[5, 20, 35, 50]] = [0.5, 0.6, 0.7, 0.4]
    loud[10:14], loud[40] = 9.0, 0.65
    folder = write_score_folder(
        tmp_path / "s", {"quiet": rows(quiet), "loud": rows(loud)}, held_out
    )
    events = events_of(folder, "score")
    assert [event["event_id"] for event in events] == ["loud-e1"]
    found = top_moments(folder, "score", events, most=10)
    assert [(row["event_id"], row["peak_score"]) for row in found] == [
        ("quiet-m1", 0.7), ("loud-m1", 0.65), ("quiet-m2", 0.6), ("quiet-m3", 0.5),
    ]  # fmt: skip
    assert sum(row["video_id"] == "quiet" for row in found) == MOST_OF_VIDEO
    assert [row["event_id"] for row in top_moments(folder, "score", events, most=2)] == [
        "quiet-m1", "loud-m1",
    ]  # fmt: skip
    assert set(found[0]) == set(events[0])
    assert top_moments(folder, "score", events, most=0) == []
    without = write_score_folder(tmp_path / "t", {"quiet": rows(quiet)}, None)
    assert len(top_moments(without, "score", [], most=10)) == 3  # no threshold is needed


@given(
    st.lists(st.integers(0, 200), max_size=40, unique=True).map(sorted),
    st.lists(st.tuples(st.integers(-20, 200), st.integers(0, 60)), max_size=8),
)
def test_peaks_inside_of_events_are_left_out(starts, spans):
    taken = [(a, a + length) for a, length in spans]
    runs = np.random.default_rng(0).permutation(len(starts))
    expected = [r for r in runs if not any(a <= starts[r] < b for a, b in taken)]
    assert list(_outside(runs, np.array([*starts, 999]), taken)) == expected
