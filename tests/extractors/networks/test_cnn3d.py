"""The 3-D CNN: Table 1 by number, any number of frames, and batch norms that are folded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from vadpipe.extractors.networks.cnn3d import ARCHITECTURES, Cnn3d, count_flops, folded, layers_of

FILTERS = {
    "shallow+narrow": [16, 32, 32],
    "shallow+wide": [32, 64, 64],
    "deep+narrow": [16, 16, 32, 32, 32, 32],
    "deep+wide": [32, 32, 64, 64, 64, 64],
}


@pytest.mark.parametrize("frames", [7, 6, 1])
@pytest.mark.parametrize(("deep_pools", "name"), [(p, n) for n in FILTERS for p in (3, 4)])
def test_shapes_and_sizes_of_table_1(name: Any, deep_pools: Any, frames: int) -> None:
    with torch.device("meta"):
        network = Cnn3d(layers_of(name, deep_pools))
        found = network(torch.empty(2, 3, frames, 64, 64))
    pools = deep_pools if name.startswith("deep") else 3
    filters = FILTERS[name]
    assert found.shape == (2, filters[-1], 64 >> pools, 64 >> pools)
    assert (network.channels, network.pools) == (filters[-1], pools)
    wanted, before = 0, 3
    for each in filters:  # 27 weights a filter and channel, and two of the batch norm
        wanted, before = wanted + 27 * before * each + 2 * each, each
    assert sum(p.numel() for p in network.parameters()) == wanted


def test_every_architecture_is_listed() -> None:
    assert FILTERS.keys() == ARCHITECTURES.keys()


def network() -> Cnn3d:
    torch.manual_seed(0)
    found = Cnn3d((4, 5, "P", 6, "P"))
    for unit in found.units:
        torch.nn.init.normal_(unit.norm.weight)
        torch.nn.init.normal_(unit.norm.bias)
        unit.norm.running_mean.normal_()
        unit.norm.running_var.uniform_(0.5, 2)
    return found.eval()


def test_layers_are_those_of_the_paper() -> None:
    """Convolution, batch norm, ReLU, then pools; the last one over all frames."""
    ours, x = network(), torch.rand(2, 3, 5, 8, 8)
    y = x
    with torch.no_grad():
        for unit, pool in zip(ours.units, [None, (1, 2, 2), (5, 2, 2)], strict=True):
            y = functional.conv3d(y, unit.conv.weight, padding=1)
            y = torch.relu(unit.norm(y))
            y = y if pool is None else functional.max_pool3d(y, pool)
        assert torch.allclose(ours(x), y[:, :, 0], atol=1e-6)


def test_folding_changes_no_output() -> None:
    ours, x = network(), torch.rand(2, 3, 3, 8, 8)
    with torch.no_grad():
        before = ours(x)
        other = folded(ours)
        assert torch.allclose(other(x), before, atol=1e-5)
        assert torch.equal(ours(x), before)
    assert not [m for m in other.modules() if isinstance(m, torch.nn.BatchNorm3d)]


@pytest.mark.parametrize("architecture", ["shallow+narrow", "deep+wide"])
def test_folding_for_bf16_is_autocast(architecture: Any) -> None:
    """Fused convolutions in bf16 compute what autocast does of the same weights."""
    torch.manual_seed(0)
    layers = layers_of(architecture)
    ours, x = Cnn3d(layers).eval(), torch.rand(2, 3, 3, 16, 16)
    exact = folded(ours)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = folded(ours, torch.bfloat16)(x)
    assert found.dtype == torch.bfloat16
    with torch.no_grad():
        expected = exact(x)
    assert functional.cosine_similarity(found.float().flatten(), expected.flatten(), 0) > 0.999


def test_flops_by_hand() -> None:
    wanted = sum(
        2 * 27 * channels * filters * 7 * side**2
        for channels, filters, side in ((3, 16, 64), (16, 32, 32), (32, 32, 16))
    )
    assert count_flops(layers_of("shallow+narrow"), 7, 64) == wanted
