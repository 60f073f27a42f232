"""Temporal pseudo-anomalies: a patch of optical flow mixed with the flow of another place or time.

Inside a rectangle R of each frame, flow becomes lambda * flow(R) + (1 - lambda) * other(R'), where
R' is a rectangle of the same size in another window; outside of R it stays as it is, bit by bit.
Lambda is drawn from Beta(alpha, alpha), as in mixup (Zhang et al., ICLR 2018).

The paper says "mixup applied to optical-flow patches" (Rai et al., CVPRW 2024, abstract) and no
more. The sizes and the movement of R are those of the patches of LNTRA (Astrid et al., BMVC 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch import Tensor

from ..data_manifests.settings import Settings
from .base import DetectorError

Flow = TypeVar("Flow", NDArray[np.floating], Tensor)


class FlowMixup(Settings):
    """Settings of the mixing.

    Attributes:
        alpha: lambda is drawn from Beta(alpha, alpha); mixup takes 0.1 to 0.4 (Sect. 3 there).
        share: longest side of a rectangle, as a share of that of the frame (LNTRA: 0.5).
        least: shortest side of a rectangle in pixels, where the frame has as many (LNTRA: 10).
        jitter: pixels that the rectangle may move to each side in each frame (LNTRA: 10); 0 keeps
            it at one place.
    """

    alpha: float = Field(default=0.4, gt=0)
    share: float = Field(default=0.5, gt=0, le=1)
    least: PositiveInt = 10
    jitter: int = Field(default=10, ge=0)


@dataclass(frozen=True)
class Mix:
    """What was drawn for one window of T frames.

    Attributes:
        top: (T,) int64, the first row of R in each frame.
        left: (T,) int64, its first column.
        other_top: the first row of R', in all frames.
        other_left: its first column.
        height: rows of R and of R'.
        width: columns of R and of R'.
        weight: lambda, of the window's own flow.
    """

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    other_top: int
    other_left: int
    height: int
    width: int
    weight: float

    def mask(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """(T, rows, columns) True inside R."""
        found = np.zeros((len(self.top), rows, columns), bool)
        for at, (top, left) in enumerate(zip(self.top, self.left, strict=True)):
            found[at, top : top + self.height, left : left + self.width] = True
        return found


def draw_mix(
    random: np.random.Generator, frames: int, rows: int, columns: int, settings: FlowMixup
) -> Mix:
    """Draw rectangles and lambda for a window of (frames, rows, columns).

    R has a centre that is uniform in the frame; what lies outside of the frame is cut off. R' has
    the size of what is left, anywhere in the frame.
    """
    top, height = _side(random, rows, settings)
    left, width = _side(random, columns, settings)
    return Mix(
        _moved(random, frames, top, rows - height, settings.jitter),
        _moved(random, frames, left, columns - width, settings.jitter),
        int(random.integers(rows - height + 1)),
        int(random.integers(columns - width + 1)),
        height,
        width,
        float(random.beta(settings.alpha, settings.alpha)),
    )


def _side(random: np.random.Generator, length: int, settings: FlowMixup) -> tuple[int, int]:
    """The start and the length of R along one axis of the frame."""
    wanted = max(settings.least, int(random.uniform(0, settings.share) * length))
    first = int(random.integers(length)) - wanted // 2
    start, stop = max(0, first), min(length, first + wanted)
    return start, stop - start


def _moved(
    random: np.random.Generator, frames: int, start: int, last: int, jitter: int
) -> NDArray[np.int64]:
    """The start of R in each frame; it stays in the picture."""
    moves = random.integers(-jitter, jitter + 1, frames)
    return np.clip(start + moves, 0, last).astype(np.int64)


def mix_flow(flow: Flow, other: Flow, mix: Mix) -> Flow:
    """Mix patches of one window.

    Args:
        flow:
            (T, H, W, C) float, channels last; not changed.
        other:
            (T, H, W, C), the window that R' is cut from: of another time of the same video, or
            `flow` itself for another place at the same time.
        mix:
            From `draw_mix`.

    Returns:
        (T, H, W, C) of the kind and on the device of `flow`.

    Raises:
        DetectorError: the windows differ in shape, or the draw is for windows of another one.
    """
    if tuple(flow.shape) != tuple(other.shape):
        raise DetectorError(
            f"windows of {tuple(flow.shape)} and {tuple(other.shape)} cannot be mixed: take two of "
            "the same length and size"
        )
    frames, rows, columns = flow.shape[:3]
    ends = [*(mix.top + mix.height), mix.other_top + mix.height]
    sides = [*(mix.left + mix.width), mix.other_left + mix.width]
    if len(mix.top) != frames or max(ends) > rows or max(sides) > columns:
        raise DetectorError(
            f"these patches were drawn for another window than one of {frames} x {rows} x {columns}"
        )
    mixed: Flow = flow.clone() if isinstance(flow, Tensor) else flow.copy()
    there = np.s_[
        mix.other_top : mix.other_top + mix.height, mix.other_left : mix.other_left + mix.width
    ]
    for at in range(frames):
        top, left = int(mix.top[at]), int(mix.left[at])
        here = np.s_[top : top + mix.height, left : left + mix.width]
        mixed[at][here] = mix.weight * flow[at][here] + (1 - mix.weight) * other[at][there]
    return mixed
