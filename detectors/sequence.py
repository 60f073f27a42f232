"""Convolutions and batch norms over sequences that lie as (b, S, C), as matrix products.

Features are stored snippet by snippet, channels last. `nn.Conv1d` wants channels first, so that
every layer copies its input, and its kernels are slower than a matrix product of the same size
(docs/performance.md). Weights and names are those of the classes of torch: a model fits both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .kept_weights import KeptWeight, linear_rows, product_dtype


class _ShiftedSum(torch.autograd.Function):
    """Sum the taps of a convolution, each shifted by its place in the kernel.

    The gradient is written in one pass; that of slices would be one padded copy for each tap.
    """

    @staticmethod
    def forward(ctx: Any, products: Tensor, dilation: int) -> Tensor:
        """(b, S, 3, F) -> (b, S, F); bf16 is summed in fp32 and rounded once."""
        length = products.shape[1]
        ctx.dilation = d = min(dilation, length)
        short = products.dtype == torch.bfloat16
        total = products[:, :, 1].float() if short else products[:, :, 1].clone()
        total[:, d:] += products[:, : length - d, 0]
        total[:, : length - d] += products[:, d:, 2]
        return total.to(products.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """(b, S, F) -> (b, S, 3, F)."""
        (of_sum,) = gradients
        b, length, width = of_sum.shape
        d = ctx.dilation
        found = of_sum.new_empty(b, length, 3, width)
        found[:, :, 1] = of_sum
        found[:, : length - d, 0] = of_sum[:, d:]
        found[:, length - d :, 0] = 0
        found[:, d:, 2] = of_sum[:, : length - d]
        found[:, :d, 2] = 0
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
        self._kept_weight = KeptWeight()

    def forward(self, x: Tensor) -> Tensor:
        """(b, S, C) -> (b, S, channels)."""
        weight = self._kept_weight.of(self.weight, product_dtype(x), _one_below_another)
        if self.kernel_size[0] == 1:
            return linear_rows(x, weight, self.bias)
        products = linear_rows(x, weight, None).view(*x.shape[:2], 3, self.out_channels)
        found: Tensor = _ShiftedSum.apply(products, self.dilation[0])
        return found if self.bias is None else found + self.bias.to(found.dtype)


def _one_below_another(weight: Tensor) -> Tensor:
    """(F, C, taps) -> (taps F, C)."""
    return weight.permute(2, 0, 1).reshape(-1, weight.shape[1])


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
