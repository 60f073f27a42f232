"""Events against anomalies: counts by hand, a slow oracle, and what time does not change."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.pipeline.metrics.event_level import (
    OVERLAP,
    Interval,
    LabelledEvents,
    event_metrics,
    labelled_events,
)


def test_counts_of_a_small_case() -> None:
    videos = [
        # the first event meets two anomalies, the second one none; the last anomaly is missed
        LabelledEvents([(10, 60), (100, 110)], [(20, 30), (50, 90), (200, 210)], 300, 10.0),
        LabelledEvents([(0, 50)], [(5, 45)], 300, 10.0),
    ]
    found = event_metrics(videos)
    assert (found.n_events, found.n_right, found.n_anomalies, found.n_found) == (3, 2, 4, 3)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == 0.75
    assert found.hours == pytest.approx(60 / 3600)
    assert found.false_per_hour == pytest.approx(60)
    assert found.median_delay == 0  # both first events begin before
    assert found.n_paired == 1  # 40 of 50 frames; 10 of 50 and 10 of 80 are too few
    assert found.strict_f1 == pytest.approx(2 / 7)


def test_a_delay_is_counted_to_the_first_event_that_meets_the_anomaly() -> None:
    late = LabelledEvents([(0, 5), (30, 35), (50, 60)], [(10, 55)], 100, 10.0)
    assert event_metrics([late]).median_delay == 2.0


def test_without_events_or_anomalies_shares_are_undefined() -> None:
    neither = event_metrics([LabelledEvents([], [], 36_000, 10.0)])
    assert (neither.precision, neither.recall, neither.strict_f1) == (None, None, None)
    assert neither.median_delay is None
    quiet = event_metrics([LabelledEvents([], [(0, 10)], 36_000, 10.0)])
    assert (quiet.precision, quiet.recall, quiet.strict_f1) == (None, 0.0, 0.0)
    loud = event_metrics([LabelledEvents([(0, 10), (20, 30)], [], 36_000, 10.0)])
    assert (loud.precision, loud.recall, loud.false_per_hour) == (0.0, None, 2.0)


def test_frames_that_were_not_measured_do_not_count() -> None:
    events = [{"frame_start": 90, "frame_stop": 120}, {"frame_start": 0, "frame_stop": 100}]
    found = labelled_events(events, [(0, 40), (40, 50), (150, 160)], (20, 100), 25.0)
    assert found.events == [(20, 100)]  # overlapping rows are one event
    assert found.anomalies == [(20, 50)]
    assert found.n_frames == 80


@st.composite
def apart(draw: st.DrawFn) -> list[Interval]:
    """Intervals that share no frame."""
    edges = sorted(draw(st.sets(st.integers(0, 60), max_size=8)))
    return list(zip(edges[::2], edges[1::2], strict=False))


@given(apart(), apart())
def test_counts_are_those_of_a_slow_oracle(
    events: list[Interval], anomalies: list[Interval]
) -> None:
    def frames(interval: Interval) -> set[int]:
        return set(range(*interval))

    def overlap(one: Interval, other: Interval) -> float:
        return len(frames(one) & frames(other)) / len(frames(one) | frames(other))

    found = event_metrics([LabelledEvents(events, anomalies, 100, 25.0)])
    assert found.n_right == sum(any(frames(e) & frames(a) for a in anomalies) for e in events)
    assert found.n_found == sum(any(frames(e) & frames(a) for e in events) for a in anomalies)
    few, many = sorted((events, anomalies), key=len)
    best = max(
        sum(overlap(one, other) >= OVERLAP for one, other in zip(few, chosen, strict=True))
        for chosen in permutations(many, len(few))
    )
    assert found.n_paired == best


@given(apart(), apart(), st.integers(1, 1000))
def test_when_it_happens_does_not_matter(
    events: list[Interval], anomalies: list[Interval], later: int
) -> None:
    def moved(intervals: list[Interval]) -> list[Interval]:
        return [(a + later, b + later) for a, b in intervals]

    one = event_metrics([LabelledEvents(events, anomalies, 100, 25.0)])
    other = event_metrics([LabelledEvents(moved(events), moved(anomalies), 100, 25.0)])
    assert one == other
