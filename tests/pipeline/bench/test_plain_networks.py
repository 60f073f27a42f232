"""Plain forms of the networks have the numbers of the networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from vadpipe.extractors.networks.clip_vit import ClipTower
from vadpipe.extractors.networks.i3d_r50 import I3dR50, I3dR50Ptv
from vadpipe.extractors.networks.inception_i3d import InceptionI3d
from vadpipe.pipeline.bench.plain_networks import plain_form


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (InceptionI3d, (9, 45, 64)),
        (I3dR50, (9, 45, 64)),
        (I3dR50Ptv, (4, 45, 64)),
        (ClipTower, (1, 224, 224)),
    ],
)
def test_plain_forms_compute_the_same(
    build: Callable[[], nn.Module], shape: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    network = build().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):  # else leaving one out changes little
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.1, 0.4)
            module.bias.data.uniform_(-0.1, 0.3)
    clip = torch.randn(1, 3, *shape)
    with torch.inference_mode():
        expected, found = network(clip), plain_form(network)(clip)
    assert found.dtype == torch.float32 and float(expected.std()) > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
