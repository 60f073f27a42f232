"""Calibration and events: stated alarm rates, closed forms, properties of any score curve."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vadpipe.pipeline.scores.events import (
    EVENT_SCHEMA,
    Calibration,
    EventConfig,
    EventError,
    events_table,
    find_events,
)
from vadpipe.pipeline.scores.frames import expand_to_frames

BARE = EventConfig(merge_seconds=0, min_seconds=0)


def frame_events(score, high, low, config=BARE, fps=10.0):
    frames = np.arange(len(score))
    return find_events(frames, frames + 1, score, fps, high, low, config)


# --- calibration -----------------------------------------------------------------------------


def test_quantiles_of_a_ramp_are_the_order_statistics():
    ramp = np.arange(1, 10_000)  # quantile q is q * (n + 1) = q * 10_000
    calibration = Calibration.from_scores([ramp[:4000], ramp[4000:]], method="ramp")
    for quantile in (0.05, 0.5, 0.95, 0.99, 0.999, 0.99345):
        assert calibration.threshold(quantile).value == pytest.approx(quantile * 10_000, abs=1e-6)
    assert (calibration.n_rows, calibration.n_videos) == (9999, 2)


def test_too_fine_a_quantile_is_warned_about():
    scores = [np.random.default_rng(k).normal(size=60) for k in range(5)]
    calibration = Calibration.from_scores(scores, method="held back")
    assert calibration.threshold(0.99).warnings == ()
    fine = calibration.threshold(0.9999)
    (warning,) = fine.warnings
    assert "9,999 rows" in warning and "300" in warning
    assert fine.value == max(map(np.max, scores))
    edge = Calibration.from_scores([range(99)], method="edge")
    (warning,) = edge.threshold(0.99).warnings  # 99 rows are just enough
    assert "1 normal video only" in warning


def test_run_json_entry():
    calibration = Calibration.from_scores([range(50)], method="held back")
    entry = json.loads(json.dumps(calibration.thresholds(EventConfig()).to_json()))
    assert (entry["quantile"], entry["release_quantile"]) == (0.99, 0.95)
    assert entry["low"] < entry["high"] == 49
    assert [text.split(" ")[0] for text in entry["warnings"]] == ["quantile", "the"]


def test_calibration_survives_json_and_rejects_rubbish():
    calibration = Calibration.from_scores([np.linspace(-3, 5, 1000)], method="held back")
    plain = json.loads(json.dumps(calibration.to_json(), allow_nan=False))
    assert Calibration.from_json(plain) == calibration
    for key, value in (
        ("levels", [0.0, 0.5]),
        ("values", plain["values"][::-1]),
        ("values", [float("nan")] * len(plain["values"])),
        ("n_rows", 0),
        ("n_videos", "many"),
    ):
        with pytest.raises(EventError, match="train the model again"):
            Calibration.from_json({**plain, key: value})
    with pytest.raises(EventError):
        Calibration.from_json({})


def test_nothing_to_calibrate_on():
    with pytest.raises(EventError, match="hold back"):
        Calibration.from_scores([np.array([])], method="none")
    with pytest.raises(EventError, match="finite"):
        Calibration.from_scores([[0.0, np.inf]], method="none")
    with pytest.raises(EventError, match=r"\[0, 1\)"):
        Calibration.from_scores([[0.0]], method="one").threshold(1.0)


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=400))
def test_calibration_takes_any_scores_and_rises(rows):
    calibration = Calibration.from_scores([rows], method="any")
    values = [calibration.threshold(q).value for q in np.linspace(0, 0.9999, 40)]
    assert (np.diff(values) >= 0).all()
    assert min(rows) - 1e-6 <= values[0] and values[-1] <= max(rows) + 1e-6


def normal_videos(kind, seed, videos, rows):
    """Scores of normal videos that all come from one source."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(videos, rows + 200))
    if kind == "iid":
        return np.exp(noise[:, 200:])  # skewed, as scores are
    rho = 0.8
    for t in range(1, noise.shape[1]):
        noise[:, t] = rho * noise[:, t - 1] + np.sqrt(1 - rho**2) * noise[:, t]
    return np.exp(noise[:, 200:])


@pytest.mark.parametrize("kind", ["iid", "autocorrelated"])
@pytest.mark.parametrize("quantile", [0.95, 0.99])
def test_alarm_rate_on_new_normal_videos_is_the_stated_one(kind, quantile):
    calibration = Calibration.from_scores(list(normal_videos(kind, 1, 20, 1000)), method="held")
    fresh = normal_videos(kind, 2, 20, 1000)
    rate = (fresh > calibration.threshold(quantile).value).mean()
    # Five binomial standard deviations of the test rows and of the calibration rows. Neighbours
    # that resemble one another (rho 0.8) leave (1 + rho) / (1 - rho) = 9 times fewer of them.
    independent = 20_000 / (1 if kind == "iid" else 9)
    tolerance = 5 * np.sqrt(2 * quantile * (1 - quantile) / independent)
    assert rate == pytest.approx(1 - quantile, abs=tolerance)
    assert tolerance < (1 - quantile) * 1.5  # the check can fail


@pytest.mark.parametrize("kind", ["iid", "autocorrelated"])
def test_alarm_rate_of_leaving_one_video_out(kind):
    videos = normal_videos(kind, 3, 20, 500)
    rates = []
    for left in range(len(videos)):
        others = [video for k, video in enumerate(videos) if k != left]
        threshold = Calibration.from_scores(others, method="leave one video out").threshold(0.98)
        rates.append((videos[left] > threshold.value).mean())
    independent = 10_000 / (1 if kind == "iid" else 9)
    assert np.mean(rates) == pytest.approx(0.02, abs=5 * np.sqrt(0.02 * 0.98 / independent))


def test_a_new_row_exceeds_the_quantile_as_often_as_stated_even_from_few_rows():
    rng = np.random.default_rng(4)
    draws = rng.normal(size=(4000, 20))  # 19 rows to calibrate on, one new row
    over = [
        new > Calibration.from_scores([held], method="m").threshold(0.9).value
        for *held, new in draws
    ]
    # 0.1 exactly; the usual (n - 1) q rule would give 0.14.
    assert np.mean(over) == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 4000))


def test_scores_that_tie_with_the_threshold_are_no_alarms():
    calibration = Calibration.from_scores([np.zeros(500)] * 5, method="m")
    high = calibration.threshold(0.99).value
    assert frame_events(np.zeros(50), high, high) == []


# --- events ----------------------------------------------------------------------------------


def test_hysteresis_by_hand():
    #        0  1  2  3  4  5  6  7  8  9
    score = [0, 2, 5, 7, 7, 2, 1, 0, 2, 0]
    (event,) = frame_events(score, high=4, low=1)
    assert (event.frame_start, event.frame_stop) == (1, 6)
    assert (event.start_s, event.end_s) == (0.1, 0.6)
    assert (event.peak_frame, event.peak_s, event.peak_score) == (3, 0.3, 7)
    assert event.mean_score == pytest.approx(23 / 5)


def test_times_count_from_the_start_of_the_file():
    (event,) = find_events([160, 176], [176, 192], [0.0, 9.0], 8.0, 5.0, 5.0, BARE)
    assert (event.frame_start, event.frame_stop, event.peak_frame) == (176, 192, 183)
    assert (event.start_s, event.end_s) == (22.0, 24.0)


def test_merging_minimum_and_padding_by_hand():
    score = np.zeros(100)
    score[[10, 11, 20, 21, 50, 80, 81]] = 1.0
    at = [(e.frame_start, e.frame_stop) for e in frame_events(score, 0.5, 0.5)]
    assert at == [(10, 12), (20, 22), (50, 51), (80, 82)]

    def spans(**times):
        config = EventConfig(**{"merge_seconds": 0, "min_seconds": 0, **times})
        return [(e.frame_start, e.frame_stop) for e in frame_events(score, 0.5, 0.5, config)]

    assert spans(merge_seconds=0.7) == at
    assert spans(merge_seconds=0.8) == [(10, 22), (50, 51), (80, 82)]
    assert spans(min_seconds=0.2) == [(10, 12), (20, 22), (80, 82)]
    assert spans(pad_seconds=0.4) == [(6, 26), (46, 55), (76, 86)]
    assert spans(pad_seconds=2) == [(0, 100)]
    assert spans(merge_seconds=0.8, min_seconds=0.2) == [(10, 22), (80, 82)]


def test_decimal_seconds_mean_whole_frames():
    assert 2.2 * 25 > 55 and 0.57 * 100 < 57  # in binary
    score = np.zeros(80)
    score[5:60] = 1.0
    assert len(frame_events(score, 0.5, 0.5, EventConfig(min_seconds=2.2), fps=25.0)) == 1
    assert not frame_events(score, 0.5, 0.5, EventConfig(min_seconds=2.24), fps=25.0)
    score = np.ones(100)
    score[20:77] = 0.0
    close = EventConfig(merge_seconds=0.57, min_seconds=0)
    assert len(frame_events(score, 0.5, 0.5, close, fps=100.0)) == 1
    close = EventConfig(merge_seconds=0.56, min_seconds=0)
    assert len(frame_events(score, 0.5, 0.5, close, fps=100.0)) == 2


curves = st.lists(st.integers(0, 9), min_size=1, max_size=120)
configs = st.builds(
    EventConfig,
    merge_seconds=st.sampled_from([0.0, 0.3, 1.0]),
    min_seconds=st.sampled_from([0.0, 0.2, 0.5]),
    pad_seconds=st.sampled_from([0.0, 0.2]),
)


def union(events, length):
    inside = np.zeros(length, dtype=bool)
    for event in events:
        inside[event.frame_start : event.frame_stop] = True
    return inside


def test_a_calibration_says_why_it_is_not_to_be_trusted() -> None:
    """Also where the threshold of a copy of everything is 0."""
    nothing = Calibration.from_scores([np.zeros(50)] * 6, method="", warnings=["a camera is new"])
    warnings = nothing.thresholds(EventConfig(quantile=0.9, release_quantile=0.5)).to_json()[
        "warnings"
    ]
    assert warnings[0] == "a camera is new"
    assert "all 300 normal scores are 0: they tell nothing" in warnings[1]
    assert Calibration.from_json(nothing.to_json()) == nothing
    old = {k: v for k, v in nothing.to_json().items() if k != "warnings"}
    assert Calibration.from_json(old).warnings == ()


@given(curves, st.integers(0, 9), st.integers(0, 9), configs)
@settings(max_examples=300, deadline=None)
def test_events_of_any_curve(curve, one, other, config):
    score, low, high = np.array(curve, dtype=float), min(one, other), max(one, other)
    events = frame_events(score, high, low, config)
    for event in events:
        inside = score[event.frame_start : event.frame_stop]
        assert 0 <= event.frame_start <= event.peak_frame < event.frame_stop <= len(score)
        assert score[event.peak_frame] == event.peak_score == inside.max() > high
        assert event.mean_score == pytest.approx(inside.mean())
        assert len(inside) >= config.min_seconds * 10
    for before, after in pairwise(events):
        apart = after.frame_start - before.frame_stop
        assert apart > max(0, (config.merge_seconds - 2 * config.pad_seconds) * 10)
    everything = config.model_copy(update={"min_seconds": 0.0})
    assert union(frame_events(score, high, low, everything), len(score))[score > high].all()


@given(curves, st.integers(0, 9), st.integers(0, 9), st.integers(0, 4), configs)
@settings(max_examples=200, deadline=None)
def test_higher_thresholds_never_add_a_frame(curve, one, other, raised, config):
    score, low, high = np.array(curve, dtype=float), min(one, other), max(one, other)
    loose = union(frame_events(score, high, low, config), len(score))
    strict = union(frame_events(score, high + raised, low + raised, config), len(score))
    assert not (strict & ~loose).any()


def test_overlapping_rows_are_averaged_first():
    start = np.arange(0, 100, 4)
    score = np.random.default_rng(5).random(len(start))
    events = find_events(start, start + 16, score, 25.0, 0.55, 0.5, BARE)
    frames = expand_to_frames(start, start + 16, score, 0, int(start[-1]) + 16)
    assert events == frame_events(frames, 0.55, 0.5, BARE, fps=25.0) != []


def test_events_table():
    score = np.tile([0.0] * 20 + [1.0] * 10, 2)
    found = frame_events(score, 0.5, 0.5)
    table = events_table({"cam.2": found, "quiet": [], "cam.1": found[:1]})
    assert table.schema == EVENT_SCHEMA
    assert table["event_id"].to_pylist() == ["cam.2-e1", "cam.2-e2", "cam.1-e1"]
    assert table["frame_start"].to_pylist() == [20, 50, 20]
    assert events_table({}).num_rows == 0 and events_table({}).schema == EVENT_SCHEMA


def test_nonsense_is_refused():
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(EventError, match="fps"):
            frame_events([0.0, 1.0], 0.5, 0.5, fps=fps)
    with pytest.raises(EventError, match="at most"):
        frame_events([0.0, 1.0], 0.4, 0.5)
    with pytest.raises(EventError, match="without score rows"):
        frame_events([], 0.5, 0.5)
    for bad in ({"quantile": 1.0}, {"quantile": 0.9}, {"min_seconds": -1}, {"max_seconds": 1}):
        with pytest.raises(ValidationError):
            EventConfig(**bad)
