"""Layers of the 3-D autoencoders: widths of the paper, and a mirror that fits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vadpipe.extractors.networks.conv3d_coder import contracting, expanding, layer_widths


def test_widths_are_those_of_the_paper() -> None:
    assert layer_widths(96) == (96, 128, 256, 256)
    assert layer_widths(6) == (6, 8, 16, 16)
    with pytest.raises(ValueError, match="multiple of 3"):
        layer_widths(95)


def test_decoder_mirrors_the_encoder() -> None:
    down = nn.Sequential(*contracting(2, (3, 4, 8, 8)))
    up = nn.Sequential(*expanding((3, 4, 8, 8), 2))
    with torch.no_grad():
        code = down(torch.rand(2, 2, 8, 16, 32))
        assert code.shape == (2, 8, 1, 1, 2)
        assert up(code).shape == (2, 2, 8, 16, 32)
    assert isinstance(up[-1], nn.ConvTranspose3d), "neither norm nor ReLU at the end"
