"""Events of held-out footage: the counts of `find_events`, budgets as brute force finds them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.held_out_rows import held_out_of
from vadpipe.pipeline.scores.events import EventConfig, EventError, find_events
from vadpipe.pipeline.scores.held_out import HeldOut
from vadpipe.pipeline.scores.held_out_events import DAY, HeldOutEvents

SCORES = st.lists(st.integers(0, 6), min_size=1, max_size=40)
VIDEOS = st.dictionaries(st.sampled_from("abcd"), SCORES, min_size=1, max_size=3)
CONFIGS = st.builds(
    EventConfig,
    merge_seconds=st.sampled_from([0.0, 1.0, 3.0]),
    min_seconds=st.sampled_from([0.0, 2.0, 4.0]),
    pad_seconds=st.sampled_from([0.0, 1.0]),
)


def by_events(held_out: HeldOut, high: float, low: float, config: EventConfig) -> list[float]:
    """The peaks of the events that scoring would make of the rows."""
    peaks = []
    for video in held_out.videos:
        part = held_out.of_video(video)
        start, stop = (part.table[n].to_numpy() for n in ("frame_start", "frame_stop"))
        rows = part.values("score")
        found = find_events(start, stop, rows, held_out.fps[video], high, low, config)
        peaks += [event.peak_score for event in found]
    return peaks


@settings(max_examples=150, deadline=None)
@given(VIDEOS, CONFIGS, st.integers(-1, 6), st.integers(0, 6))
def test_events_are_those_that_scoring_makes(videos, config, low, more):
    held_out = held_out_of(videos)
    events = HeldOutEvents(held_out, config, low)
    high = low + more
    assert events.count(high) == len(by_events(held_out, high, low, config))
    at_floor = sorted(by_events(held_out, low, low, config))
    assert events.event_peaks().tolist() == at_floor


@settings(max_examples=150, deadline=None)
@given(VIDEOS, CONFIGS, st.integers(-1, 6), st.lists(st.integers(1, 8), min_size=1, max_size=4))
def test_a_budget_is_what_brute_force_finds(videos, config, low, allowed):
    """The lowest threshold for which it and every higher one make no more events."""
    held_out = held_out_of(videos)
    events = HeldOutEvents(held_out, config, low)
    levels = sorted({float(low), *(float(s) for v in videos.values() for s in v if s > low)})
    counts = {level: len(by_events(held_out, level, low, config)) for level in levels}
    for count, found in zip(
        allowed, events.budgeted([n / events.days() for n in allowed]), strict=True
    ):
        good = [t for t in levels if all(counts[u] <= count for u in levels if u >= t)]
        assert events.count(found.value) == counts[min(good)] == found.events <= count
        assert found.value == min(good) or counts[found.value] == counts[min(good)]
        assert found.at_floor == (found.value == low)


@settings(max_examples=100, deadline=None)
@given(VIDEOS, CONFIGS, st.lists(st.floats(0.1, 1e6), min_size=2, max_size=6))
def test_a_larger_budget_never_has_a_higher_threshold(videos, config, budgets):
    events = HeldOutEvents(held_out_of(videos), config, 1.0)
    found = events.budgeted(sorted(budgets))
    values = [each.value for each in found]
    assert values == sorted(values, reverse=True)
    alone = [events.budgeted([budget])[0] for budget in sorted(budgets)]
    assert alone == found, "each is what it is without the others"


def test_known_events_of_known_hours():
    """Ten peaks of 1 to 10 in a day of footage: n a day are those above the n-th highest."""
    scores = np.zeros(int(DAY) // 10)
    scores[100::800][:10] = np.arange(1, 11)
    events = HeldOutEvents(
        held_out_of({"day": scores}, fps=0.1), EventConfig(min_seconds=0.0, merge_seconds=0.0), 0.5
    )
    assert events.days() == pytest.approx(1.0)
    for n in range(1, 11):
        (found,) = events.budgeted([n])
        assert found.value == (10 - n if n < 10 else 0.5) and found.events == n
    assert [e.value for e in events.budgeted([0.4, 2.5, 99])] == [10, 8, 0.5]


def test_constant_scores_have_no_event_and_the_lower_level_is_the_threshold():
    events = HeldOutEvents(held_out_of({"a": [2.0] * 50}), EventConfig(), 2.0)
    (found,) = events.budgeted([1.0])
    assert (found.value, found.events, found.at_floor) == (2.0, 0, True)
    assert not len(events.event_peaks())


def test_videos_can_be_looked_at_apart():
    config = EventConfig(min_seconds=0.0)
    events = HeldOutEvents(held_out_of({"a": [0, 5, 0, 0], "b": [0, 0, 3, 0]}), config, 1.0)
    assert (events.count(1), events.count(1, ["a"]), events.count(4, ["b"])) == (2, 1, 0)
    assert events.days(["a"]) == 4 / DAY and events.event_peaks(["b"]).tolist() == [3.0]
    assert events.count(-7) == 2, "below the lower level events are those at it"


def test_rows_of_several_frames_and_of_a_rate_are_put_on_frames():
    config = EventConfig(min_seconds=1.0, merge_seconds=0.0)
    events = HeldOutEvents(held_out_of({"a": [0, 5, 0]}, fps=25.0, step=16), config, 1.0)
    assert events.count(1.0) == 0, "16 frames at 25 a second are shorter than a second"
    assert events.days() == 48 / 25 / DAY


def test_rows_without_a_frame_rate_say_what_to_do():
    with pytest.raises(EventError, match=r"frame rate of a, .*train the model again with --force"):
        HeldOutEvents(held_out_of({"a": [1.0, 2.0]}, fps=None), EventConfig(), 0.0)


def test_rows_that_no_video_has_take_no_memory():
    rows = held_out_of({"a": [1.0, 2.0]}, step=1_500_000_000 // 2)
    with pytest.raises(EventError, match="which no video has"):
        HeldOutEvents(rows, EventConfig(), 0.0)
