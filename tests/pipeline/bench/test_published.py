"""The plain form of SSRL computes what `ssrl` computes: scores, gradients, and what it trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vadpipe.detectors.relation import RelationNetwork
from vadpipe.detectors.segments import FeatureLayout
from vadpipe.detectors.ssrl import SSRL, SSRLConfig
from vadpipe.pipeline.bench.published import PlainRelation, PublishedSSRL, as_published
from vadpipe.pipeline.bench.train import SEGMENTS, ProblemSize, _Drawn

LAYOUT = FeatureLayout(
    16,
    {"snippet": 2, "patch/2x3": 6, "patch/3x5": 15, "patch/4x7": 28},
    {"patch/2x3": (2, 3), "patch/3x5": (3, 5), "patch/4x7": (4, 7)},
)


def networks() -> tuple[Any, Any]:
    """Ours and the plain one with the same weights, nothing at its start, in double precision."""
    config = SSRLConfig(dropout=0)
    torch.manual_seed(0)
    ours = SSRL(config).make_network(LAYOUT).double()
    with torch.no_grad():
        for name, value in ours.state_dict().items():
            if value.is_floating_point():
                low, high = (0.5, 1) if name.endswith("running_var") else (-0.2, 0.2)
                value.uniform_(low, high)
    plain = as_published(SSRL(config).make_network(LAYOUT)).double()
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@pytest.mark.parametrize("training", [True, False])
def test_the_networks_are_one_function_with_one_gradient(training: bool) -> None:
    found = []
    for network in networks():
        network.train(training)
        generator = torch.Generator().manual_seed(1)
        batch = {
            role: torch.randn(4, 5, count, 16, dtype=torch.float64, generator=generator)
            for role, count in LAYOUT.positions.items()
        }
        scales = ["2x3", "3x5", "4x7"]
        bags = network(SSRL._sum(network, scales, batch["snippet"], batch))
        (bags.logits.square().mean() + bags.magnitudes.mean()).backward()
        gradients = {name: p.grad for name, p in network.named_parameters()}
        found.append((bags, gradients, network.state_dict()))
    (ours, mine, state), (plain, theirs, other) = found
    assert torch.allclose(ours.logits, plain.logits, atol=1e-10)
    assert torch.allclose(ours.magnitudes, plain.magnitudes, atol=1e-10)
    assert set(mine) == set(theirs)
    for name, gradient in mine.items():
        assert gradient is not None, name
        assert torch.allclose(gradient, theirs[name], rtol=1e-6, atol=1e-9), name
    for name, value in state.items():  # batch norm statistics too
        assert torch.allclose(value.double(), other[name].double(), atol=1e-10), name


def test_it_trains_the_same_weights_stage_by_stage() -> None:
    """What frozen branches computed is kept by one and computed again by the other."""
    bags = _Drawn(ProblemSize(pairs=2, crops=2, width=16), ("snippet", "patch"))
    config = SSRLConfig(steps=2, batch_size=2, dropout=0, lr=1e-3)
    states, losses = [], []
    for kind in (SSRL, PublishedSSRL):
        detector = kind(config)
        log = detector.fit(bags, device="cpu", seed=0)
        states.append(detector.state_dict())
        losses.append([float(row["total"]) for row in log.rows])
    assert len(losses[0]) == 2 * 4
    assert np.allclose(*losses, rtol=1e-4)
    for name, value in states[0].items():
        # A step of Adam moves a weight by up to the rate, also where its gradient is mere rounding.
        apart = np.abs(value - states[1][name]) > 1e-4 + 1e-4 * np.abs(value)
        assert apart.mean() < 0.02, (name, apart.mean())


def test_a_relation_network_differs_in_layout_only() -> None:
    torch.manual_seed(0)
    ours, plain = RelationNetwork(32).double().eval(), PlainRelation(32).double().eval()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, SEGMENTS, 32, dtype=torch.float64)
    assert torch.allclose(ours(x), plain(x), atol=1e-12)
    assert plain.attention_columns(x) is None
