"""MIL ranking: the objective against loops and the authors' sums, its start, unit length."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.bags import weak_bags
from vadpipe.detectors.mil_ranking import MILRanking, MILRankingConfig, RankingNetwork
from vadpipe.detectors.segments import FeatureLayout


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


def test_weights_decay_as_in_the_authors_code() -> None:
    """Their loss sums over 30 abnormal videos and adds 0.001 |W|^2 of each layer, not of biases.

    Adagrad's steps do not depend on the scale of the gradient, so a thirtieth of it is compared.
    """
    torch.manual_seed(0)
    detector = MILRanking(MILRankingConfig())
    network = RankingNetwork(6, 0.0)
    for layer in (network.fc1, network.fc2, network.fc3):
        torch.nn.init.normal_(layer.bias)
    scores = network(torch.randn(60, 5, 1, 6))
    normal, abnormal = scores[:30], scores[30:]
    pairs = torch.relu(1 - abnormal.amax(dim=1)[None] + normal.amax(dim=1)[:, None])
    theirs = pairs.sum(dim=1).mean() + 8e-5 * (abnormal.sum() + abnormal.diff(dim=1).square().sum())
    layers = (network.fc1, network.fc2, network.fc3)
    theirs = theirs + sum(0.001 * layer.weight.square().sum() for layer in layers)
    parameters = list(network.parameters())
    expected = torch.autograd.grad(theirs / 30, parameters, retain_graph=True)
    ours = torch.autograd.grad(detector.losses(network, scores)["total"], parameters)
    optimizer = detector.make_optimizer(parameters, 0.001)
    decay = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for parameter, gradient, wanted in zip(parameters, ours, expected, strict=True):
        assert torch.allclose(gradient + decay[parameter] * parameter, wanted, rtol=1e-4, atol=1e-8)


def test_the_network_starts_glorot_normal() -> None:
    torch.manual_seed(0)
    network = MILRanking(MILRankingConfig()).make_network(FeatureLayout(200, {"snippet": 1}, {}))
    deviation = (2 / (200 + 512)) ** 0.5
    assert network.fc1.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert network.fc1.weight.abs().max().item() > 3 * deviation  # a uniform one ends at 1.73
    assert not any(layer.bias.any() for layer in (network.fc1, network.fc2, network.fc3))


def test_scale_of_the_features_does_not_count_where_they_are_normalised() -> None:
    bags = weak_bags(2)
    detector = MILRanking(MILRankingConfig(steps=2))
    detector.fit(bags, device="cpu", seed=0)
    rows = detector.prepare_rows(7 * bags[0].tracks["snippet"].rows())
    assert np.allclose(np.linalg.norm(rows, axis=-1), 1, atol=1e-6)
    plain = MILRanking(MILRankingConfig(normalise=False))
    assert np.array_equal(plain.prepare_rows(rows * 7), rows * 7)
    assert detector.resampling == "sultani"
