"""Convolutions and batch norms over sequences that lie as (b, S, C), as matrix products.

Features are stored snippet by snippet, channels last. `nn.Conv1d` wants channels first, so that
every layer copies its input, and its kernels are slower than a matrix product of the same size
(docs/performance.md). Weights and names are those of the classes of torch: a model fits both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class _ShiftedSums(torch.autograd.Function):
    """Sum the taps of convolutions, each shifted by its place in the kernel.

    The gradient is written in one pass; that of slices would be one padded copy for each tap.
    """

    @staticmethod
    def forward(ctx: Any, products: Tensor, dilations: tuple[int, ...]) -> Tensor:
        """(b, S, J, 3, F), kernels of three taps -> (b, S, J, F); J convolutions."""
        ctx.dilations = dilations
        sums = products[:, :, :, 1].clone(memory_format=torch.contiguous_format)
        length = products.shape[1]
        for j, d in enumerate(dilations):
            if d < length:
                sums[:, d:, j] += products[:, : length - d, j, 0]
                sums[:, : length - d, j] += products[:, d:, j, 2]
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """(b, S, J, F) -> (b, S, J, 3, F)."""
        (of_sums,) = gradients
        b, length, count, width = of_sums.shape
        found = of_sums.new_empty(b, length, count, 3, width)
        found[:, :, :, 1] = of_sums
        for j, d in enumerate(ctx.dilations):
            d = min(d, length)
            found[:, : length - d, j, 0] = of_sums[:, d:, j]
            found[:, length - d :, j, 0] = 0
            found[:, d:, j, 2] = of_sums[:, : length - d, j]
            found[:, :d, j, 2] = 0
        return found, None


class SequenceConv(nn.Conv1d):
    """`nn.Conv1d` of kernel 1, or of kernel 3 with "same" padding, over (b, S, C).

    Args:
        width:
            Input channels.
        channels:
            Output channels.
        kernel:
            1 or 3.
        dilation:
            Distance of the taps.
        bias:
            Whether there is one.
    """

    def __init__(
        self, width: int, channels: int, kernel: int = 1, *, dilation: int = 1, bias: bool = True
    ) -> None:
        if kernel not in (1, 3):
            raise ValueError(f"kernel is {kernel}, not 1 or 3")
        padding = dilation if kernel == 3 else 0
        super().__init__(width, channels, kernel, padding=padding, dilation=dilation, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(b, S, C) -> (b, S, channels)."""
        if self.kernel_size[0] == 1:
            return nn.functional.linear(x, self.weight[..., 0], self.bias)
        return convolve_together([self], x)[:, :, 0]


def convolve_together(layers: Sequence[SequenceConv], x: Tensor) -> Tensor:
    """Compute several convolutions of kernel 3 as one matrix product.

    Args:
        layers:
            J convolutions of the same widths.
        x:
            (b, S, C).

    Returns:
        (b, S, J, channels).
    """
    count, channels = len(layers), layers[0].out_channels
    # (channels, C, 3) of each layer -> (J, 3, channels, C)
    taps = torch.stack([layer.weight for layer in layers]).permute(0, 3, 1, 2)
    products = nn.functional.linear(x, taps.reshape(count * 3 * channels, -1))
    dilations = tuple(layer.dilation[0] for layer in layers)
    found: Tensor = _ShiftedSums.apply(products.view(*x.shape[:2], count, 3, channels), dilations)
    if layers[0].bias is not None:
        found = found + torch.stack([layer.bias for layer in layers if layer.bias is not None])
    return found


class SequenceNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` over the last axis of (b, S, C), or of (n, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        # A picture of one row, channels last: the kernel that torch has for this layout.
        picture = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
        normal: Tensor = super().forward(picture)
        return normal.permute(0, 2, 3, 1).reshape(x.shape)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept the picture of `forward`."""
