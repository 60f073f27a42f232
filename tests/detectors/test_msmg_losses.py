"""Losses of MSMG against plain loops, closed forms and numeric gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vadpipe.detectors.msmg_losses import (
    continuity_loss,
    estimation,
    localisation_loss,
)

N, D = 5, 7
SCENES = [0, 1, 0, 2, 1]
SAME = torch.tensor([[a == b for b in SCENES] for a in SCENES])
NONE = torch.eye(N, dtype=torch.bool)


def embeddings(seed: int = 0) -> list[Tensor]:
    random = np.random.default_rng(seed)
    return [torch.from_numpy(random.normal(size=(N, D))) for _ in range(3)]


def cosine(a: Tensor, b: Tensor) -> float:
    x, y = a.tolist(), b.tolist()
    dot = sum(p * q for p, q in zip(x, y, strict=True))
    return dot / math.sqrt(sum(p * p for p in x)) / math.sqrt(sum(q * q for q in y))


def negative_log_softmax(logits: list[float], target: int) -> float:
    return math.log(sum(math.exp(value) for value in logits)) - logits[target]


def test_l1_and_l2_by_hand() -> None:
    random = np.random.default_rng(1)
    broken, whole = random.normal(size=(2, N, 2))
    expected = sum(
        negative_log_softmax(list(b), 1) + negative_log_softmax(list(w), 0)
        for b, w in zip(broken, whole, strict=True)
    )
    found = continuity_loss(torch.from_numpy(broken), torch.from_numpy(whole))
    assert float(found) == pytest.approx(expected / N)
    logits, place = random.normal(size=(N, 10)), [3, 0, 9, 5, 5]
    expected = sum(
        negative_log_softmax(list(row), at) for row, at in zip(logits, place, strict=True)
    )
    found = localisation_loss(torch.from_numpy(logits), torch.tensor(place))
    assert float(found) == pytest.approx(expected / N)


@pytest.mark.parametrize(("gamma", "omega", "tau"), [(0.2, 0.5, 0.1), (1.5, 0.3, 0.5), (0.2, 1, 1)])
@pytest.mark.parametrize("same", [SAME, NONE], ids=["scenes", "none"])
def test_l3_by_hand(same: Tensor, gamma: float, omega: float, tau: float) -> None:
    d, c, m = embeddings()
    loss = triplet = contrastive = 0.0
    for i in range(N):
        plus, minus = cosine(d[i], m[i]), cosine(d[i], c[i])
        hinge = max(0.0, gamma - (plus - minus))
        q_plus = math.exp(minus / tau)
        q_minus = sum(
            math.exp(cosine(d[i], d[j]) / tau) + math.exp(cosine(d[i], c[j]) / tau)
            for j in range(N)
            if not same[i, j]
        )
        contrast = -math.log(q_plus / (q_plus + q_minus))
        triplet, contrastive = triplet + hinge / N, contrastive + contrast / N
        loss += (omega * hinge + (1 - omega) * contrast) / N
    found = estimation(d, c, m, same, gamma=gamma, omega=omega, tau=tau)
    assert float(found.loss) == pytest.approx(loss)
    assert float(found.triplet) == pytest.approx(triplet)
    assert float(found.contrastive) == pytest.approx(contrastive)
    assert float(found.p_plus) == pytest.approx(
        np.mean([cosine(*x) for x in zip(d, m, strict=True)])
    )
    assert float(found.p_minus) == pytest.approx(
        np.mean([cosine(*x) for x in zip(d, c, strict=True)])
    )
    assert float(found.q_plus) == pytest.approx(
        np.mean([math.exp(cosine(*x) / tau) for x in zip(d, c, strict=True)])
    )


def test_equal_embeddings_have_a_closed_form() -> None:
    same = torch.ones(N, D, dtype=torch.float64)
    found = estimation(same, same, same, NONE, gamma=0.2, omega=0.5, tau=0.1)
    assert float(found.triplet) == pytest.approx(0.2)  # the whole margin is missing
    assert float(found.contrastive) == pytest.approx(math.log(1 + 2 * (N - 1)))
    assert float(found.p_plus) == pytest.approx(1) and float(found.p_minus) == pytest.approx(1)


def test_orthogonal_embeddings_have_a_closed_form() -> None:
    axes = torch.eye(3 * N, dtype=torch.float64)
    d, c, m = axes[:N], axes[N : 2 * N], axes[2 * N :]
    found = estimation(d, c, m, NONE, gamma=0.2, omega=0.5, tau=0.1)
    assert float(found.triplet) == pytest.approx(0.2)
    assert float(found.contrastive) == pytest.approx(math.log(1 + 2 * (N - 1)))
    best = estimation(d, c, d, NONE, gamma=0.2, omega=1, tau=0.1)
    assert float(best.loss) == 0  # the missing frame is nearer by more than the margin


def test_those_of_one_scene_are_no_negatives() -> None:
    d, c, m = embeddings()
    both = {"gamma": 0.2, "omega": 0.5, "tau": 0.1}
    everything = torch.ones(N, N, dtype=torch.bool)
    assert float(estimation(d, c, m, everything, **both).contrastive) == 0
    moved = d.clone()
    moved[2] = -moved[2]  # of the scene of number 0, and of no other one
    for i, changes in ((0, False), (1, True)):
        alone = everything.clone()
        alone[i] = SAME[i]
        before = estimation(d, c, m, alone, **both).contrastive
        after = estimation(moved, c, m, alone, **both).contrastive
        assert (abs(float(before - after)) > 1e-6) == changes


def test_large_similarities_do_not_overflow() -> None:
    d, c, m = (each.float() for each in embeddings())
    found = estimation(d, d, m, NONE, gamma=0.2, omega=0.0, tau=1e-3)
    assert math.isfinite(float(found.loss)) and float(found.loss) < 1e-6
    assert math.isfinite(float(estimation(d, -d, c, NONE, gamma=0.2, omega=0, tau=1e-3).loss))


@pytest.mark.parametrize("tau", [1e-3, 0.011, 0.1])
def test_all_numbers_of_l3_are_finite_at_small_temperatures(tau: float) -> None:
    d, c, m = (each.float() for each in embeddings())
    for whole in (d, -d, c):  # the nearest, the farthest, and any other clip
        found = estimation(d, whole, m, NONE, gamma=0.2, omega=0.5, tau=tau)
        values = {name: float(value) for name, value in vars(found).items()}
        assert all(math.isfinite(value) for value in values.values()), values
    nearest = float(estimation(d, d, m, NONE, gamma=0.2, omega=0.5, tau=tau).q_plus)
    assert nearest == pytest.approx(math.exp(min(1 / tau, 60)), rel=1e-4)


def test_gradients_are_those_of_differences() -> None:
    values = [each[:3].requires_grad_() for each in embeddings(2)]

    def loss(d: Tensor, c: Tensor, m: Tensor) -> Tensor:
        return estimation(d, c, m, SAME[:3, :3], gamma=1.9, omega=0.4, tau=0.3).loss

    assert torch.autograd.gradcheck(loss, values)
    logits = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(continuity_loss, logits.requires_grad_().unbind())


def test_the_missing_frame_learns_too() -> None:
    values = [each.requires_grad_() for each in embeddings()]
    estimation(*values, SAME, gamma=1.9, omega=0.5, tau=0.1).loss.backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in values)
