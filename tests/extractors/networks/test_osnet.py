"""OSNet: the published number of parameters, its key names, files of others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vadpipe.extractors.networks.osnet import FEATURES, Block, Gate, OSNet, from_torchreid
from vadpipe.extractors.weights.cards import LayoutError


def test_it_has_the_published_number_of_parameters() -> None:
    """The authors count the parameters of a gate for each of the four streams that it reads."""
    with torch.device("meta"):
        network = OSNet()
        found = network(torch.empty(2, 3, 1, 256, 128))
    gates = [m for m in network.modules() if isinstance(m, Gate)]
    gated = sum(p.numel() for gate in gates for p in gate.parameters())
    assert sum(p.numel() for p in network.parameters()) + 3 * gated == 2_193_616
    assert found.shape == (2, FEATURES)


def test_a_block_adds_four_gated_streams() -> None:
    torch.manual_seed(0)
    block = Block(16, 64).eval()
    x = torch.rand(2, 16, 5, 4)
    with torch.no_grad():
        inner = block.conv1(x)
        total = torch.zeros_like(inner)
        for stream in (block.conv2a, block.conv2b, block.conv2c, block.conv2d):
            seen = stream(inner)
            weight = block.gate.fc2(block.gate.fc1(seen.mean((2, 3), keepdim=True)).clamp(min=0))
            total += seen * weight.sigmoid()
        assert block.downsample is not None
        expected = (block.conv3(total) + block.downsample(x)).clamp(min=0)
        assert torch.allclose(block(x), expected, atol=1e-6)
    assert [len(list(s)) for s in (block.conv2b, block.conv2c, block.conv2d)] == [2, 3, 4]


def test_files_of_the_authors_lose_their_classifier_and_their_prefixes() -> None:
    with torch.device("meta"):
        state = OSNet().state_dict()
    plain = {name: np.zeros(tuple(value.shape)) for name, value in state.items()}
    for prefix in ("", "module.", "state_dict/", "state_dict/module."):
        given = {f"{prefix}{name}": value for name, value in plain.items()}
        given[f"{prefix}classifier.weight"] = np.zeros((4101, 512))
        given["epoch"] = np.zeros(())
        assert from_torchreid(given).keys() == state.keys()
    with pytest.raises(LayoutError, match="it is not OSNet"):
        from_torchreid({"conv1.weight": np.zeros(3)})
