"""What a bench counts of convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vadpipe.extractors.networks.fused import FusedConv, is_available
from vadpipe.pipeline.bench.convolutions import gflop_of, recorded


@pytest.mark.skipif(not is_available(torch.float32), reason="this torch has no fused operations")
def test_fused_convolutions_count_like_those_of_torch() -> None:
    conv = nn.Conv3d(4, 6, 3, padding=1).requires_grad_(False)
    x = torch.randn(2, 4, 3, 5, 5)
    fused, plus = FusedConv(conv), torch.randn(2, 6, 3, 5, 5)
    wanted = 2 * plus.numel() * 4 * 27 / 1e9 / 2
    with torch.no_grad():
        for run in (lambda: conv(x), lambda: fused(x, relu=True), lambda: fused(x, plus)):
            assert gflop_of(run, 2) == pytest.approx(wanted)


@pytest.mark.skipif(not is_available(torch.float32), reason="this torch has no fused operations")
def test_fused_convolutions_are_recorded() -> None:
    layers = [nn.Conv3d(3, 4, 1), nn.Conv2d(3, 4, 1)]
    network = nn.ModuleList([FusedConv(each.requires_grad_(False)) for each in layers])
    found = recorded(
        network,
        lambda: [network[0](torch.ones(1, 3, 2, 2, 2)), network[1](torch.ones(1, 3, 2, 2))],
    )
    assert [layer for layer, _ in found] == [network[0]]
