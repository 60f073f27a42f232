"""MIL ranking: the objective of a batch against loops, and unit length of its input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.bags import weak_bags
from vadpipe.detectors.mil_ranking import MILRanking, MILRankingConfig, RankingNetwork


def test_the_objective_against_loops() -> None:
    torch.manual_seed(0)
    network = RankingNetwork(12, 0.0)
    detector = MILRanking(MILRankingConfig())
    x = 5 * torch.randn(6, 7, 2, 12)
    terms = detector.losses(network, detector.forward(network, {"snippet": x}))
    scores = network(x).tolist()
    normal, abnormal = scores[:3], scores[3:]
    hinge = sum(max(0.0, 1 - max(a) + max(n)) for a in abnormal for n in normal) / 9
    sparse = sum(map(sum, abnormal)) / 3
    smooth = sum((a[t + 1] - a[t]) ** 2 for a in abnormal for t in range(6)) / 3
    assert terms["ranking"].item() == pytest.approx(hinge, rel=1e-5)
    assert terms["total"].item() == pytest.approx(hinge + 8e-5 * (sparse + smooth), rel=1e-5)


def test_scale_of_the_features_does_not_count_where_they_are_normalised() -> None:
    bags = weak_bags(2)
    detector = MILRanking(MILRankingConfig(steps=2))
    detector.fit(bags, device="cpu", seed=0)
    rows = detector.prepare_rows(7 * bags[0].tracks["snippet"].rows())
    assert np.allclose(np.linalg.norm(rows, axis=-1), 1, atol=1e-6)
    plain = MILRanking(MILRankingConfig(normalise=False))
    assert np.array_equal(plain.prepare_rows(rows * 7), rows * 7)
    assert detector.resampling == "sultani"
