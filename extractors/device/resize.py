"""Resizing of uint8 pictures, with the same result on every device.

Bilinear or bicubic with antialias, as Pillow and torch do it: along the width, rounded to uint8,
then along the height. On a CPU torch's own kernel runs; elsewhere torch has none for uint8, so the
same integer arithmetic is written out here, bit by bit (`_taps`).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

Size = tuple[int, int]  # height, width
Interpolation = Literal["bilinear", "bicubic"]

MOST_BITS = 22  # at most, of the fractional part of a weight that fits into 16 bits


def short_side(height: int, width: int, side: int) -> Size:
    """The size whose shorter side is `side`; the longer one is rounded down, as in torchvision."""
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def resize_frames(frames: Tensor, size: Size, kind: Interpolation = "bilinear") -> Tensor:
    """Resize with antialias.

    Args:
        frames:
            (T, H, W, 3) uint8, on any device.
        size:
            (h, w).
        kind:
            Interpolation.

    Returns:
        (T, h, w, 3) uint8, on the same device.
    """
    if tuple(frames.shape[1:3]) == size:
        return frames
    if frames.device.type != "cpu":
        return resize_exactly(frames, size, kind)
    if len(frames) == 1:  # numpy gives a new axis no stride, and torch then finds other channels
        frames = frames[0][None]
    pictures = frames.permute(0, 3, 1, 2)  # (T, 3, H, W), channels last in memory
    return interpolate(pictures, size, mode=kind, antialias=True).permute(0, 2, 3, 1)


def resize_exactly(frames: Tensor, size: Size, kind: Interpolation = "bilinear") -> Tensor:
    """`resize_frames` by plain integer arithmetic: equal in every bit to torch's CPU kernel."""
    return _resize_axis(_resize_axis(frames, 2, size[1], kind), 1, size[0], kind)


def _resize_axis(frames: Tensor, axis: int, length: int, kind: Interpolation) -> Tensor:
    if frames.shape[axis] == length:
        return frames
    first, weights, bits = _taps(frames.shape[axis], length, kind)
    places = torch.from_numpy(first).to(frames.device)
    factors = torch.from_numpy(weights).to(frames.device)
    shape = [1] * frames.dim()
    shape[axis] = length
    last = frames.shape[axis] - 1
    total = torch.full((), 1 << (bits - 1), dtype=torch.int32, device=frames.device)
    for tap in range(weights.shape[1]):
        column = frames.index_select(axis, (places + tap).clamp_(max=last)).to(torch.int32)
        total = total + column * factors[:, tap].reshape(shape)
    return (total >> bits).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=256)
def _taps(
    length_in: int, length_out: int, kind: Interpolation
) -> tuple[np.ndarray, np.ndarray, int]:
    """Which pixels each output pixel is made of.

    Returns:
        (length_out,) int64 first input pixel; (length_out, k) int32 weights in units of 2^-bits,
        zero where there are fewer than k; the largest number of bits with which every weight fits
        into 16 bits.
    """
    scale = length_in / length_out
    radius = (1.0 if kind == "bilinear" else 2.0) * max(scale, 1.0)
    centres = scale * (np.arange(length_out) + 0.5)
    first = np.maximum((centres - radius + 0.5).astype(np.int64), 0)
    stop = np.minimum((centres + radius + 0.5).astype(np.int64), length_in)
    taps = np.arange(math.ceil(radius) * 2 + 1)
    distance = (taps + first[:, None] - centres[:, None] + 0.5) / max(scale, 1.0)
    weights = _filter(np.abs(distance), kind) * (taps < (stop - first)[:, None])
    weights /= weights.sum(1, keepdims=True)
    bits = 0
    while bits < MOST_BITS and int(0.5 + weights.max() * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    scaled = weights * (1 << bits)
    return first, np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int32), bits


def _filter(x: np.ndarray, kind: Interpolation) -> np.ndarray:
    """The weight of a pixel at a distance of x >= 0 pixels; bicubic with a = -0.5."""
    if kind == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
