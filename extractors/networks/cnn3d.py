"""A plain 3-D CNN for short sequences of small pictures, in the four sizes of SSMTL (Table 1).

Paper: Georgescu et al., "Anomaly Detection in Video via Self-Supervised and Multi-Task Learning",
CVPR 2021, Sect. 3.2. Convolutions keep the number of frames, and the last pool takes the maximum
over all of them, so a sequence may have any length.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from .fused import Convolution, FusedConv, is_available, rectified
from .pools import max_of_frames, max_of_squares

Architecture = Literal["shallow+narrow", "shallow+wide", "deep+narrow", "deep+wide"]
Pool = Literal["none", "space", "all"]
Layer = int | Literal["P"]

# Filters of a convolution, or P: a pool. The last one pools all time too.
ARCHITECTURES: dict[Architecture, tuple[Layer, ...]] = {
    "shallow+narrow": (16, "P", 32, "P", 32, "P"),
    "shallow+wide": (32, "P", 64, "P", 64, "P"),
    "deep+narrow": (16, 16, "P", 32, 32, "P", 32, "P", 32, "P"),
    "deep+wide": (32, 32, "P", 64, 64, "P", 64, "P", 64, "P"),
}

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def layers_of(architecture: Architecture, deep_pools: Literal[3, 4] = 4) -> tuple[Layer, ...]:
    """Return the layers of an architecture.

    Args:
        architecture:
            Of Table 1.
        deep_pools:
            Pools of the deep ones: 4 as printed, or 3, without the pool between the last two
            convolutions, which the text does not mention. The shallow ones always have 3.
    """
    layers = ARCHITECTURES[architecture]
    if architecture.startswith("deep") and deep_pools == 3:
        return (*layers[:7], *layers[8:])
    return layers


class Unit(nn.Module):
    """Convolution, batch norm, an optional pool, ReLU.

    The pool comes before the ReLU: the maximum is the same, and the ReLU has less to do. In a fused
    convolution the ReLU costs nothing and comes first.

    Args:
        dims:
            2 or 3.
        channels:
            Of the input.
        filters:
            Of the output.
        pool:
            "space": 2 x 2; "all": that and the maximum over all frames.
    """

    def __init__(self, dims: Literal[2, 3], channels: int, filters: int, pool: Pool) -> None:
        super().__init__()
        self.conv: Convolution
        self.norm: nn.Module
        if dims == 2:
            self.conv = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(filters)
        else:
            self.conv = nn.Conv3d(channels, filters, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm3d(filters)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or (B, C, T, H, W) -> (B, C', H', W') or (B, C', T, H', W')."""
        fused = isinstance(self.conv, FusedConv)
        x = rectified(self.conv, self.norm, x) if fused else self.norm(self.conv(x))
        if self.pool == "all":
            x = max_of_frames(x)
        if self.pool != "none":
            x = max_of_squares(x) if x.dim() == 4 else _halved(x)
        return x if fused else torch.relu(x)

    def fold(self, fused: torch.dtype | None = None) -> None:
        """Put the batch norm into the convolution; only for a unit in evaluation mode.

        Args:
            fused:
                Precision of a fused convolution; None leaves it a convolution of torch.
        """
        if isinstance(self.conv, FusedConv):
            return
        if isinstance(self.norm, nn.BatchNorm2d | nn.BatchNorm3d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()
            if fused is not None:
                self.conv = FusedConv(self.conv.to(dtype=fused))


def _halved(x: Tensor) -> Tensor:
    """Pool each frame: (B, C, T, H, W) -> (B, C, T, H / 2, W / 2).

    As a batch of pictures, which is a view if colours are innermost: on a CPU twice as fast as a
    pool in three dimensions.
    """
    small = max_of_squares(x.transpose(1, 2).flatten(0, 1))
    return small.view(len(x), x.shape[2], *small.shape[1:]).transpose(1, 2)


class Cnn3d(nn.Module):
    """Units of 3-D convolutions, the last of which pools all frames.

    Args:
        layers:
            Filters of each convolution, and "P" for a pool after it; the last one is a pool.
        pool_time:
            False leaves out the last pool over time: one map for each frame.

    Attributes:
        channels: C of the output.
        filters: of the first convolution, whose map is the largest.
        pools: each halves height and width.
    """

    def __init__(self, layers: Sequence[Layer], *, pool_time: bool = True) -> None:
        super().__init__()
        units, channels = [], 3
        for i, filters in enumerate(layers):
            if isinstance(filters, int):
                pooled = i + 1 < len(layers) and layers[i + 1] == "P"
                last = pool_time and i + 2 == len(layers)
                pool: Pool = "none" if not pooled else "all" if last else "space"
                units.append(Unit(3, channels, filters, pool))
                channels = filters
        self.units = nn.Sequential(*units)
        self.channels = channels
        self.filters = next(filters for filters in layers if isinstance(filters, int))
        self.pools = list(layers).count("P")

    def map_bytes(self, frames: int, height: int, width: int) -> int:
        """Count the bytes of the largest map of one sequence, that of the first convolution."""
        first = self.units[0]
        assert isinstance(first, Unit)
        return frames * height * width * self.filters * first.conv.weight.element_size()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, C, H / 2**pools, W / 2**pools); any T.

        Without a pool over time (B, C, T, H / 2**pools, W / 2**pools).
        """
        found: Tensor = self.units(x)
        return found


def folded(network: NetworkT, dtype: torch.dtype = torch.float32) -> NetworkT:
    """Copy a network for scoring: each batch norm becomes a part of its convolution.

    On a CPU the convolutions become fused ones. The copy stays on its device.

    Args:
        network:
            With or without units.
        dtype:
            In which fused convolutions compute; bf16 is meant for a run in autocast.
    """
    found = copy.deepcopy(network).eval()
    at = next(network.parameters()).device.type
    fused = dtype if at == "cpu" and is_available(dtype) else None
    for part in found.modules():
        if isinstance(part, Unit):
            part.fold(fused)
    return found


@lru_cache
def count_flops(layers: tuple[Layer, ...], frames: int, side: int) -> float:
    """Count multiply-adds times two of one sequence of square pictures, on the meta device."""
    with torch.device("meta"):
        network = Cnn3d(layers).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, 3, frames, side, side))
    return float(counter.get_total_flops())
