"""Latency-aware average precision: closed forms, what lowers it, what it does not depend on."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from vadpipe.pipeline.metrics.frame_level import LabelledScores, frame_metrics
from vadpipe.pipeline.metrics.latency import latency_aware_ap, onset_weights

NORMAL, LENGTH = 60, 20


def measured(*videos: tuple[NDArray[np.float64], NDArray[np.bool_]]) -> float:
    weight = onset_weights([label for _, label in videos])
    score, label = (np.concatenate(each) for each in zip(*videos, strict=True))
    return latency_aware_ap(score, label, weight)


def label_of(length: int = LENGTH) -> NDArray[np.bool_]:
    """An anomaly between two stretches of normal frames."""
    label = np.zeros(NORMAL + length, bool)
    label[NORMAL // 2 : NORMAL // 2 + length] = True
    return label


def late(delay: int, length: int = LENGTH) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A detector that sees an anomaly so many frames after its onset, and until its end."""
    label = label_of(length)
    score = label.astype(float)
    score[NORMAL // 2 : NORMAL // 2 + delay] = 0.0
    return score, label


def test_weights_fall_in_a_line_and_every_anomaly_counts_alike() -> None:
    found = onset_weights([np.array([0, 1, 1, 1, 0, 1]), np.array([0, 0]), np.array([1, 1])])
    wanted = np.array([0, 3 / 6, 2 / 6, 1 / 6, 0, 1, 0, 0, 2 / 3, 1 / 3]) / 3
    assert found == pytest.approx(wanted, abs=1e-15)
    assert not onset_weights([np.zeros(4)]).any()


def test_an_alarm_from_the_onset_to_the_end_is_perfect() -> None:
    assert measured(late(0)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("delay", [0, 1, 7, 19, 20])
def test_a_late_alarm_has_the_closed_form(delay: int) -> None:
    """Precision 1 for the weights that are left, the share of abnormal frames for the others."""
    left = (LENGTH - delay) * (LENGTH - delay + 1) / (LENGTH * (LENGTH + 1))
    share = LENGTH / (NORMAL + LENGTH)
    assert measured(late(delay)) == pytest.approx(left + (1 - left) * share, abs=1e-12)


def test_every_frame_of_delay_lowers_it() -> None:
    values = [measured(late(delay)) for delay in range(LENGTH + 1)]
    assert all(one > other for one, other in pairwise(values))


def test_late_costs_more_than_ending_early_by_as_much() -> None:
    """Average precision cannot tell these two apart."""
    score, label = late(8)
    early = score[::-1].copy()
    assert average_precision_score(label, score) == average_precision_score(label, early)
    assert measured((score, label)) < measured((early, label))


def test_long_anomalies_weigh_no_more_than_short_ones() -> None:
    missed_long, missed_short = [late(0, 5), late(40, 40)], [late(5, 5), late(0, 40)]
    share = 45 / (2 * NORMAL + 45)
    for videos in (missed_long, missed_short):
        assert measured(*videos) == pytest.approx((1 + share) / 2, abs=1e-12)


@st.composite
def some_videos(draw: st.DrawFn) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    videos = []
    for n in sizes:
        scores = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))
        labels = draw(st.lists(st.booleans(), min_size=n, max_size=n))
        videos.append((np.array(scores, float), np.array(labels)))
    if not any(label.any() for _, label in videos):
        videos[0][1][0] = True
    return videos


@given(some_videos())
def test_it_is_the_sum_by_definition(videos: list) -> None:
    score, label = (np.concatenate(each) for each in zip(*videos, strict=True))
    weight = onset_weights([own for _, own in videos])
    total, before = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        at = score >= threshold
        recall = math.fsum(weight[at])
        total += label[at].mean() * (recall - before)
        before = recall
    assert measured(*videos) == pytest.approx(total, abs=1e-12)


@given(some_videos())
def test_only_the_order_of_scores_counts(videos: list) -> None:
    changed = [(np.exp(score) * 3 - 7, label) for score, label in videos]
    assert measured(*changed) == measured(*videos)
    assert measured(*videos[::-1]) == pytest.approx(measured(*videos), abs=1e-12)


@given(some_videos())
def test_weights_of_one_for_all_frames_are_average_precision(videos: list) -> None:
    score, label = (np.concatenate(each) for each in zip(*videos, strict=True))
    found = latency_aware_ap(score, label, label / label.sum())
    assert found == pytest.approx(average_precision_score(label, score), abs=1e-12)


def test_frame_metrics_has_it_where_both_classes_are() -> None:
    (score, label), name = late(5), "latency_aware_ap"
    done = frame_metrics([LabelledScores("a", score, label)])
    assert done.latency_aware_ap == measured((score, label))
    none = frame_metrics([LabelledScores("a", score, np.zeros(len(score)))])
    assert none.latency_aware_ap is None and "normal" in none.undefined[name]
