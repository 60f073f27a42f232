"""Convolution and batch norm over grids of patches that lie as (M, rows, columns, C).

A grid has 2 x 3 to 4 x 7 cells, and each cell 2,048 channels: the kernels of torch, made for large
pictures with few channels, reach a third of the rate of a matrix product here
(docs/performance.md). Weights and names are those of the classes of torch: a model fits both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .kept_weights import KeptWeight, product_dtype

KERNEL = 3


def _ranges(size: int, tap: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Which cells of one side a tap reads, and which outputs it adds to; padding is left out."""
    count = (size + 2 * padding - KERNEL) // stride + 1
    offset = tap - padding  # output o reads cell o * stride + offset
    first = max(0, -(offset // stride))
    last = min(count, (size - 1 - offset) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset
    return slice(start, start + (last - first - 1) * stride + 1, stride), slice(first, last)


def _taps(
    grid: tuple[int, int], stride: int, padding: int
) -> Iterator[tuple[int, int, tuple[slice, ...], tuple[slice, ...]]]:
    """Row and column of every tap that reads anything, its cells, and its outputs."""
    for i in range(KERNEL):
        for j in range(KERNEL):
            from_rows, to_rows = _ranges(grid[0], i, stride, padding)
            from_columns, to_columns = _ranges(grid[1], j, stride, padding)
            if to_rows.stop > to_rows.start and to_columns.stop > to_columns.start:
                every = slice(None)
                yield i, j, (every, from_rows, from_columns), (every, to_rows, to_columns)


class _TapProducts(torch.autograd.Function):
    """A 3 x 3 convolution as one matrix product for each tap.

    Only the cells are kept for the gradient, not their nine shifted copies.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, taps: Tensor, bias: Tensor, stride: int, padding: int
    ) -> Tensor:
        """(M, rows, columns, C), (3, 3, C, F), (F,) -> (M, rows', columns', F)."""
        grid = (x.shape[1], x.shape[2])
        rows, columns = ((side + 2 * padding - KERNEL) // stride + 1 for side in grid)
        dtype = torch.float32 if x.dtype == torch.bfloat16 else x.dtype
        sums = x.new_empty(len(x), rows, columns, len(bias), dtype=dtype)
        sums.copy_(bias)  # never a view of it: of one cell, expand() and contiguous() copy nothing
        for i, j, read, write in _taps(grid, stride, padding):
            cells = x[read]
            product = cells.reshape(-1, x.shape[-1]) @ taps[i, j]
            sums[write] += product.view(*cells.shape[:3], -1)
        ctx.save_for_backward(x, taps)
        ctx.stride, ctx.padding = stride, padding
        return sums.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_sums: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the cells, the weights and the bias, as far as they are asked for."""
        x, taps = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        of_x = torch.zeros_like(x) if wants_x else None
        of_taps = torch.zeros_like(taps) if wants_weight else None
        for i, j, read, write in _taps((x.shape[1], x.shape[2]), ctx.stride, ctx.padding):
            gradient = of_sums[write].reshape(-1, of_sums.shape[-1])
            cells = x[read]
            if of_taps is not None:
                torch.mm(cells.reshape(-1, x.shape[-1]).T, gradient, out=of_taps[i, j])
            if of_x is not None:
                of_x[read] += (gradient @ taps[i, j].T).view(cells.shape)
        of_bias = of_sums.float().sum(dim=(0, 1, 2)).to(of_sums.dtype) if wants_bias else None
        return of_x, of_taps, of_bias, None, None


class GridConv(nn.Conv2d):
    """`nn.Conv2d` of kernel 3 x 3 over (M, rows, columns, C).

    Args:
        width:
            Input channels.
        channels:
            Output channels.
        stride:
            1 or 2, of both sides.
        padding:
            0 or 1, of both sides.
    """

    def __init__(self, width: int, channels: int, *, stride: int, padding: int) -> None:
        super().__init__(width, channels, KERNEL, stride=stride, padding=padding)
        self._kept_weight = KeptWeight()

    def forward(self, x: Tensor) -> Tensor:
        """(M, rows, columns, C) -> (M, rows', columns', channels)."""
        assert self.bias is not None
        dtype = product_dtype(x)
        taps = self._kept_weight.of(self.weight, dtype, _tap_by_tap)
        found: Tensor = _TapProducts.apply(
            x.to(dtype), taps, self.bias.to(dtype), self.stride[0], int(self.padding[0])
        )
        return found


def _tap_by_tap(weight: Tensor) -> Tensor:
    """(F, C, 3, 3) -> (3, 3, C, F)."""
    return weight.permute(2, 3, 1, 0).contiguous()


class GridNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the last axis of (M, rows, columns, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """(M, rows, columns, C) -> the same shape."""
        normal: Tensor = super().forward(x.permute(0, 3, 1, 2))
        return normal.permute(0, 2, 3, 1)
