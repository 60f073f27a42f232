"""Metrics by size: thirds, ties, and frames that have no size."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vadpipe.pipeline.metrics.frame_level import LabelledScores
from vadpipe.pipeline.metrics.sizes import size_metrics


def video(score: list[float], label: list[int], n_padding: int = 0) -> LabelledScores:
    return LabelledScores("v", np.array(score), np.array(label), n_padding=n_padding)


def test_thirds_are_ranked_with_all_normal_frames() -> None:
    rng = np.random.default_rng(0)
    label = (np.arange(60) % 2).tolist()
    score = rng.random(60).round(1)
    area = np.where(label, rng.random(60) * 0.1, 0.0)
    rows = size_metrics([video(score.tolist(), label)], [area], threshold=0.5)
    assert [row.name for row in rows] == ["small", "medium", "large"]
    assert [row.n_frames for row in rows] == [10, 10, 10]
    order = np.argsort(np.where(label, area, np.inf))[:30]
    for number, row in enumerate(rows):
        own = order[10 * number : 10 * number + 10]
        ranked = np.concatenate([own, np.flatnonzero(np.array(label) == 0)])
        expected = roc_auc_score(np.array(label)[ranked], score[ranked])
        assert row.micro_auc == pytest.approx(expected, abs=1e-12)
        assert row.recall == pytest.approx((score[own] > 0.5).mean())
        assert (row.smallest, row.largest) == (area[own].min(), area[own].max())


def test_recall_allows_alarms_on_a_tenth_of_the_normal_frames() -> None:
    normal = list(range(20))  # two may exceed: above 17
    found = size_metrics(
        [video([*normal, 17, 17.5, 30], [0] * 20 + [1] * 3)],
        [np.array([0.0] * 20 + [0.1, 0.2, 0.3])],
    )
    assert [row.recall_at_fpr for row in found] == [0.0, 1.0, 1.0]
    assert [row.recall for row in found] == [None] * 3


def test_equal_sizes_stay_together_and_an_empty_third_is_left_out() -> None:
    areas = np.array([0, 0.5, 0.5, 0.5, 0.5])
    (row,) = size_metrics([video([0, 1, 1, 1, 1], [0, 1, 1, 1, 1])], [areas])
    assert (row.name, row.n_frames, row.micro_auc) == ("small", 4, 1.0)


def test_frames_without_a_size_count_only_where_they_are_normal() -> None:
    masked = video([0.2, 0.9, 0.8], [0, 1, 1])
    bare = video([0.85, 0.95], [0, 1])
    (row,) = size_metrics([masked, bare], [np.array([0, 0.1, 0.0]), None])
    assert (row.n_frames, row.micro_auc) == (1, 1.0)
    padded = video([0.2, 0.9, 0.99], [0, 1, 0], n_padding=1)
    (row,) = size_metrics([padded], [np.array([0, 0.1])])
    assert row.micro_auc == 1.0
    assert size_metrics([bare], [None]) == ()
    assert size_metrics([video([0.5], [1])], [np.array([0.1])]) == ()
