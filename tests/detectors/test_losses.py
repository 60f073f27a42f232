"""Losses against slow oracles, closed forms, and numerical gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vadpipe.detectors.losses import (
    bag_cross_entropy,
    feature_magnitude,
    ranking_hinge,
    smoothness,
    sparsity,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_bag_cross_entropy_is_the_mean_over_all_bags() -> None:
    normal, abnormal = drawn(3), drawn(3, seed=1)
    terms = [-math.log(1 - s) for s in normal.tolist()] + [-math.log(s) for s in abnormal.tolist()]
    assert bag_cross_entropy(normal, abnormal).item() == pytest.approx(sum(terms) / 6, abs=1e-12)


def test_squared_magnitude_takes_the_norm_of_the_mean() -> None:
    normal, abnormal = 50 * drawn(4, 3, 7), 80 * drawn(4, 3, 7, seed=1)
    terms = []
    for n, a in zip(normal.tolist(), abnormal.tolist(), strict=True):
        low, high = (
            math.sqrt(sum((sum(row[d] for row in rows) / 3) ** 2 for d in range(7)))
            for rows in (n, a)
        )
        terms.append((abs(100 - high) + low) ** 2)
    assert feature_magnitude(normal, abnormal).item() == pytest.approx(sum(terms) / 4, rel=1e-12)


def test_hinge_magnitude_takes_the_mean_of_the_norms() -> None:
    normal, abnormal = 20 * drawn(4, 3, 7), 60 * drawn(4, 3, 7, seed=1)
    terms = []
    for n, a in zip(normal.tolist(), abnormal.tolist(), strict=True):
        low, high = (sum(math.sqrt(sum(x * x for x in row)) for row in rows) / 3 for rows in (n, a))
        terms.append(max(0.0, 100 - high + low))
    found = feature_magnitude(normal, abnormal, form="hinge")
    assert found.item() == pytest.approx(sum(terms) / 4, rel=1e-12)
    assert feature_magnitude(normal, 1000 + abnormal, form="hinge").item() == 0


def test_magnitude_is_zero_where_it_should_lead() -> None:
    abnormal = torch.zeros(2, 3, 4)
    abnormal[..., 0] = 100
    assert feature_magnitude(torch.zeros(2, 3, 4), abnormal).item() == 0
    swapped = feature_magnitude(abnormal, torch.zeros(2, 3, 4)).item()
    assert swapped == pytest.approx(200.0**2)


def test_ranking_hinge_is_the_mean_over_all_pairs() -> None:
    normal, abnormal = drawn(4), drawn(5, seed=1)
    pairs = [max(0.0, 1 - a + n) for a in abnormal.tolist() for n in normal.tolist()]
    assert ranking_hinge(normal, abnormal).item() == pytest.approx(sum(pairs) / 20, abs=1e-12)
    assert ranking_hinge(torch.zeros(2), torch.ones(2)).item() == 0
    assert ranking_hinge(torch.ones(2), torch.zeros(2)).item() == 2


def test_sparsity_forms() -> None:
    scores = drawn(3, 5)
    flat = scores.flatten().tolist()
    assert sparsity(scores).item() == pytest.approx(math.sqrt(sum(s * s for s in flat)))
    assert sparsity(scores, "l1").item() == pytest.approx(sum(flat) / 3)


def test_smoothness_counts_steps_between_videos_only_where_asked_to() -> None:
    scores = torch.tensor([[0.0, 0.5, 0.5], [1.0, 1.0, 0.0]])
    assert smoothness(scores, across=True).item() == pytest.approx(0.25 + 0.25 + 1)
    assert smoothness(scores, across=False).item() == pytest.approx((0.25 + 1) / 2)
    assert smoothness(scores[[1, 0]], across=False) == smoothness(scores, across=False)


@pytest.mark.parametrize(
    ("loss", "shapes"),
    [
        (bag_cross_entropy, [(4,), (4,)]),
        (lambda n, a: feature_magnitude(n, a, margin=3.0), [(4, 3, 5), (4, 3, 5)]),
        (lambda n, a: feature_magnitude(n, a, 3.0, "hinge"), [(4, 3, 5), (4, 3, 5)]),
        (ranking_hinge, [(4,), (3,)]),
        (lambda s: sparsity(s), [(3, 5)]),
        (lambda s: sparsity(s, "l1"), [(3, 5)]),
        (lambda s: smoothness(s, across=True), [(3, 5)]),
        (lambda s: smoothness(s, across=False), [(3, 5)]),
    ],
)
def test_gradients(loss: Callable[..., Tensor], shapes: list[tuple[int, ...]]) -> None:
    inputs = [(0.05 + 0.9 * drawn(*s, seed=i)).requires_grad_() for i, s in enumerate(shapes)]
    assert torch.autograd.gradcheck(loss, inputs)
