"""The networks as public PyTorch code writes them: what the speed of vadpipe's is compared with.

Each takes one clip or frame at a time, in float32 with colours outermost, batch norms and
activations as passes of their own, and torch's own pools. The numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...extractors.networks.clip_vit import ClipTower
from ...extractors.networks.i3d_r50 import Bottleneck, I3dR50, I3dR50Ptv
from ...extractors.networks.inception_i3d import InceptionI3d, Mixed, Unit, same_padding

Plain = Callable[[Tensor], Tensor]


def plain_form(network: nn.Module) -> Plain:
    """The plain form of a network that was built and not prepared: (1, 3, T, H, W) -> (1, D).

    Args:
        network:
            In evaluation mode; its layers and weights are used as they are.
    """
    form: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
        InceptionI3d: _inception,
        I3dR50: _r50,
        I3dR50Ptv: _r50_ptv,
        ClipTower: _clip,
    }
    return lambda clip: form[type(network)](network, clip)


def _inception(network: InceptionI3d, x: Tensor) -> Tensor:
    """As piergiaj/pytorch-i3d does: zeros are padded before each convolution and pool."""
    x = _pool(_unit(network.Conv3d_1a_7x7, x), (1, 3, 3), (1, 2, 2))
    x = _unit(network.Conv3d_2c_3x3, _unit(network.Conv3d_2b_1x1, x))
    x = _pool(x, (1, 3, 3), (1, 2, 2))
    x = _mixed(network.Mixed_3c, _mixed(network.Mixed_3b, x))
    x = _pool(x, (3, 3, 3), (2, 2, 2))
    for name in "bcdef":
        x = _mixed(getattr(network, f"Mixed_4{name}"), x)
    x = _pool(x, (2, 2, 2), (2, 2, 2))
    x = _mixed(network.Mixed_5c, _mixed(network.Mixed_5b, x))
    return x.mean((2, 3, 4))


def _mixed(block: Mixed, x: Tensor) -> Tensor:
    branches = (
        _unit(block.b0, x),
        _unit(block.b1b, _unit(block.b1a, x)),
        _unit(block.b2b, _unit(block.b2a, x)),
        _unit(block.b3b, _pool(x, (3, 3, 3), (1, 1, 1))),
    )
    return torch.cat(branches, 1)


def _unit(unit: Unit, x: Tensor) -> Tensor:
    kernel = cast(tuple[int, int, int], unit.conv3d.kernel_size)
    x = _padded(x, kernel, cast(tuple[int, int, int], unit.conv3d.stride))
    return functional.relu(unit.bn(unit.conv3d(x)))


def _pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    return functional.max_pool3d(_padded(x, kernel, stride), kernel, stride)


def _padded(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    pads = [same_padding(n, k, s) for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    return functional.pad(x, [side for pair in reversed(pads) for side in pair])


def _r50(network: I3dR50, x: Tensor) -> Tensor:
    """As Tushar-N/pytorch-resnet3d does."""
    x = functional.relu(network.bn1(network.conv1(x)))
    x = functional.max_pool3d(x, (2, 3, 3), 2)
    for block in network.layer1:
        x = _bottleneck(cast(Bottleneck, block), x)
    x = functional.max_pool3d(x, (2, 1, 1), (2, 1, 1))
    for layer in (network.layer2, network.layer3, network.layer4):
        for block in layer:
            x = _bottleneck(cast(Bottleneck, block), x)
    return x.mean((2, 3, 4))


def _bottleneck(block: Bottleneck, x: Tensor) -> Tensor:
    shortcut = x if block.downsample is None else block.downsample(x)
    x = functional.relu(block.bn1(block.conv1(x)))
    x = functional.relu(block.bn2(block.conv2(x)))
    return functional.relu(block.bn3(block.conv3(x)) + shortcut)


def _r50_ptv(network: I3dR50Ptv, x: Tensor) -> Tensor:
    """Through the blocks of pytorchvideo itself, without its head."""
    for block in list(network.blocks)[:-1]:
        x = block(x)
    return x.mean((2, 3, 4))


def _clip(network: ClipTower, x: Tensor) -> Tensor:
    """Through timm's own network, QuickGELU and all."""
    return cast(Tensor, network.tower(x[:, :, 0]))
