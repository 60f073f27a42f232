"""First layers over blocks of pixels: a convolution whose strides become channels.

A convolution of stride s over C channels equals one of stride 1 over blocks of s pixels with s C
channels, its kernel filled up with zeros to whole blocks. Processors that multiply matrices waste
most of their work on three channels; on 6 or 24 of them they waste less, although there are more
products. If kernel and stride are equal, as in a patch embedding, there are no more products, and
the convolution is one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

Form = Literal["plain", "pairs", "folded"]
"""How a first layer takes pixels: as they are; two of a row as one; all of a stride as one."""
FORMS: tuple[Form, ...] = get_args(Form)

Sides = Sequence[tuple[int, int]]
"""Zeros before and after each axis."""

# Short runs are copied word by word, each word of all blocks at once: a loop over three numbers
# costs more than the numbers.
FEW_WORDS = 8
WORDS = {8: torch.int64, 4: torch.int32, 2: torch.int16}


def block_of(form: Form, stride: Sequence[int]) -> tuple[int, ...]:
    """Pixels that become one, along each axis; all 1 where a form changes nothing."""
    match form:
        case "plain":
            return (1,) * len(stride)
        case "pairs":
            return (*(1,) * (len(stride) - 1), 2 if stride[-1] == 2 else 1)
        case "folded":
            return tuple(stride)


class Folding:
    """A convolution over blocks of pixels: its kernels, and its input in blocks.

    Args:
        weight:
            (O, C, ...), channels last in memory.
        stride:
            Of the convolution, along each axis.
        block:
            Pixels that become one along each axis: 1, or the stride.
    """

    def __init__(self, weight: Tensor, stride: Sequence[int], block: Sequence[int]) -> None:
        self._weight = weight
        self._stride, self._block = tuple(stride), tuple(block)
        self._kernels: dict[tuple[int, ...], Tensor] = {}
        self.stride = [s // b for s, b in zip(stride, block, strict=True)]  # over blocks

    def __call__(self, x: Tensor, padding: Sides) -> tuple[Tensor, Tensor]:
        """Arrange an input, and choose the kernel that fits its padding.

        Args:
            x:
                (B, C, ...), large enough for the kernel.
            padding:
                Zeros around it.

        Returns:
            Blocks (B, prod(block) C, ...), padded, and the kernel (O, prod(block) C, ...): their
            convolution with `stride`, without padding, is that of `x`. Both channels last.
        """
        fronts, leads, lengths = [], [], []
        axes = zip(
            x.shape[2:], self._weight.shape[2:], self._stride, self._block, padding, strict=True
        )
        for size, kernel, stride, block, (before, after) in axes:
            out = (size + before + after - kernel) // stride + 1
            front = -(-before // block)  # whole blocks, so that pixels stay where they are
            lead = front * block - before  # what is too much is a zero of the kernel
            fronts.append(front)
            leads.append(lead)
            lengths.append((out - 1) * (stride // block) + -(-(lead + kernel) // block))
        return in_blocks(x, self._block, fronts, lengths), self._kernel(tuple(leads))

    def _kernel(self, leads: tuple[int, ...]) -> Tensor:
        """(O, C, ...) -> (O, prod(block) C, ...), with zeros before each axis."""
        if leads not in self._kernels:
            weight = self._weight
            sides = [
                (lead, -(lead + size) % block)
                for size, lead, block in zip(weight.shape[2:], leads, self._block, strict=True)
            ]
            weight = padded(weight, sides)
            halves = [
                part
                for size, block in zip(weight.shape[2:], self._block, strict=True)
                for part in (size // block, block)
            ]
            weight = weight.reshape(*weight.shape[:2], *halves)  # (O, C, K / b, b, K / b, b, ...)
            axes = len(self._block)
            inner = [3 + 2 * axis for axis in range(axes)]
            weight = weight.permute(0, *inner, 1, *(each - 1 for each in inner))
            layout = torch.channels_last_3d if axes == 3 else torch.channels_last
            self._kernels[leads] = weight.flatten(1, 1 + axes).contiguous(memory_format=layout)
        return self._kernels[leads]


def padded(x: Tensor, padding: Sides) -> Tensor:
    """(B, C, ...) with zeros before and after each axis."""
    return functional.pad(x, [side for pair in reversed(padding) for side in pair])


def in_blocks(
    x: Tensor, block: Sequence[int], fronts: Sequence[int], lengths: Sequence[int]
) -> Tensor:
    """Put blocks of pixels in the place of pixels.

    Args:
        x:
            (B, C, ...), channels last in memory; else it is copied once more.
        block:
            Pixels of a block along each axis.
        fronts:
            Blocks of zeros before each axis.
        lengths:
            Blocks of each axis of the result. What `x` has beyond them is left out; what it lacks
            is zero.

    Returns:
        (B, prod(block) C, *lengths), channels last in memory; in the channels of a block the last
        axis of `x` is innermost but for C.
    """
    *outer, inner = block
    pixels = x.movedim(1, -1).contiguous()  # (B, ..., W, C)
    channels = pixels.shape[-1]
    rows = pixels.flatten(-2)  # (B, ..., W C): whole rows are copied fast
    if extra := -pixels.shape[-2] % inner:
        rows = functional.pad(rows, [0, extra * channels])
    run = inner * channels
    runs = rows.view(*rows.shape[:-1], rows.shape[-1] // run, run)  # (B, ..., W / block, block C)
    blocks = runs.new_zeros(len(x), *lengths, prod(block) * channels)
    kept, words = _words(runs, alone=prod(outer) == 1)
    source, target = (runs, blocks) if kept is None else (runs.view(kept), blocks.view(kept))
    length = source.shape[-1]  # words of a run
    for place, offsets in enumerate(product(*map(range, outer))):
        pixels_at, blocks_at = [slice(None)], [slice(None)]
        axes = zip(runs.shape[1:-1], (*offsets, 0), (*outer, 1), fronts, lengths, strict=True)
        for size, offset, step, front, whole in axes:
            n = max(0, min(-(-(size - offset) // step), whole - front))
            pixels_at.append(slice(offset, offset + n * step, step))
            blocks_at.append(slice(front, front + n))
        here = source[tuple(pixels_at)]
        there = target[tuple(blocks_at)].narrow(-1, place * length, length)
        for first in range(0, length, words):
            there.narrow(-1, first, words).copy_(here.narrow(-1, first, words))
    return blocks.movedim(-1, 1)


def _words(runs: Tensor, *, alone: bool) -> tuple[torch.dtype | None, int]:
    """How runs (..., r) are copied: the type of a word or None for their own, and words at once.

    Args:
        runs:
            Runs of pixels.
        alone:
            Whether nothing else lies between the runs of a row in the result.
    """
    run = runs.shape[-1] * runs.element_size()
    offset = runs.storage_offset() * runs.element_size()
    size = next((w for w in WORDS if run % w == 0 and offset % w == 0), None)
    if alone or size is None or run // size > FEW_WORDS:
        return None, runs.shape[-1]
    return WORDS[size], 1
