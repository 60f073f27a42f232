"""How well a network reconstructs windows of pictures: which window scores a frame, and its error.

Pictures stay as they are stored until a batch of windows needs them, so the memory does not grow
with the length of a video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .base import DetectorError, Track
from .cells import Grid, cell_means

Border = Literal["drop", "replicate"]
Reduction = Literal["mean", "max", "block"]

SMALLEST_ERROR = 1e-10  # a perfect reconstruction has 100 dB, not infinitely many
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in OpenCV
PIXELS_AT_ONCE = 8 * 16 * 256 * 256  # of the windows of a batch
WINDOWS_AT_ONCE = 32


def psnr(error: Tensor, largest: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio in dB (eq. 1): 10 log10(largest^2 / error).

    Args:
        error:
            Mean squared errors; below 1e-10 they count as 1e-10.
        largest:
            M. LNTRA takes 1 for values in [-1, 1]; it cancels in eq. 2.
    """
    return 10 * torch.log10(largest**2 / error.clamp_min(SMALLEST_ERROR))


def min_max(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale the values of a video to [0, 1] (eq. 2); a constant curve becomes 0."""
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    if not high > low:
        return np.zeros(len(values))
    return (values - low) / (high - low)


def scaled_frames(frames: Tensor, channels: int) -> Tensor:
    """Scale stored frames to [-1, 1]: (B, T, H, W, 3) uint8 -> (B, channels, T, H, W) float32.

    One channel is the grey value.
    """
    values = frames.float()
    if channels == 1:
        values = (values * values.new_tensor(GREY)).sum(-1, keepdim=True)
    return (values / 127.5 - 1).permute(0, 4, 1, 2, 3)


def scaled_flow(flow: Tensor, channels: int, limit: float) -> Tensor:
    """Scale stored flow to [-1, 1]: (B, T, H, W, 2) -> (B, channels, T, H, W) float32.

    Args:
        flow:
            Pixels a frame to the right, and down.
        channels:
            2: both directions. 3: the magnitude as well.
        limit:
            Pixels a frame that become 1; faster flow is cut off there.
    """
    values = flow.float()
    scaled = (values / limit).clamp(-1, 1)
    if channels == 3:
        speed = torch.hypot(values[..., 0], values[..., 1])[..., None]
        scaled = torch.cat([scaled, (speed / limit).clamp(0, 1) * 2 - 1], -1)
    return scaled.permute(0, 4, 1, 2, 3)


@dataclass(frozen=True)
class Placement:
    """Which rows of a video have a score, and the window that each gets it from.

    Attributes:
        rows: (m,) int64, ascending.
        start: (m,) int64, the first row of the window. It may lie before the first row of the
            video, or the window may end after the last: these rows are repeated there.
    """

    rows: NDArray[np.int64]
    start: NDArray[np.int64]


def place(n: int, length: int, scored: int, stride: int, border: Border) -> Placement:
    """Choose the windows that score the rows of a video.

    With stride 1, a row gets its score from the window in which it is number `scored` (from 0).
    With stride s, every s-th window scores the s rows around that place. A video that is shorter
    than a window has all its rows scored, whatever the rule.

    Args:
        n:
            Rows of the video.
        length:
            Rows of a window.
        scored:
            Number of the row that a window scores.
        stride:
            From one window to the next.
        border:
            "drop": rows that no whole window scores have no score. "replicate": windows reach over
            the ends of the video, whose first and last rows are repeated.
    """
    whole = border == "drop" and n >= length
    first, last = (0, n - length) if whole else (-scored, n - 1 - scored)
    own = np.arange(first, last + 1, dtype=np.int64)  # the window that has a row at `scored`
    start = first + (own - first + stride // 2) // stride * stride
    return Placement(own + scored, np.minimum(start, last))


@dataclass(frozen=True)
class Errors:
    """Errors of the scored rows of a video.

    Attributes:
        values: (m,) float64, the reduced squared error of each row.
        maps: (m, rows, columns) float32, its mean over each cell.
    """

    values: NDArray[np.float64]
    maps: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How the squared error of a picture becomes a number and a map.

    Attributes:
        reduction: "mean" of all pixels; "max": the worst pixel; "block": the worst block.
        block: side of a block in pixels.
        cells: (rows, columns) of the map.
    """

    reduction: Reduction = "mean"
    block: int = 8
    cells: Grid = (32, 32)

    def reduced(self, errors: Tensor) -> Tensor:
        """(n, H, W) squared errors -> (n,)."""
        if self.reduction == "mean":
            return errors.mean((1, 2))
        if self.reduction == "block":
            side = (min(self.block, errors.shape[1]), min(self.block, errors.shape[2]))
            errors = functional.avg_pool2d(errors[:, None], side, ceil_mode=True)[:, 0]
        return errors.amax((1, 2))


def reconstruction_errors(
    track: Track,
    placement: Placement,
    length: int,
    network: Callable[[Tensor], Tensor],
    prepare: Callable[[Tensor], Tensor],
    measure: Measure,
    device: torch.device,
) -> Errors:
    """Reconstruct the windows of a video and measure the errors of the rows that they score.

    Args:
        track:
            The pictures.
        placement:
            From `place`.
        length:
            Rows of a window.
        network:
            (B, C, T, H, W) -> the same shape.
        prepare:
            Stored windows (B, T, H, W, ...) -> what the network takes.
        measure:
            Of a picture.
        device:
            Of the network.

    Raises:
        DetectorError: a value of the pictures is not finite.
    """
    starts, window = np.unique(placement.start, return_inverse=True)
    height, width = track.array.shape[1:3]
    size = max(1, min(WINDOWS_AT_ONCE, PIXELS_AT_ONCE // (length * height * width)))
    values, maps = np.zeros(len(placement.rows)), []
    for first in range(0, len(starts), size):
        chosen = starts[first : first + size]
        inputs = prepare(_windows(track, chosen, length).to(device))
        squared = (network(inputs) - inputs).float().square().mean(1)  # (B, T, H, W)
        own = np.flatnonzero((window >= first) & (window < first + size))
        at = torch.from_numpy(placement.rows[own] - placement.start[own]).to(device)
        errors = squared[torch.from_numpy(window[own] - first).to(device), at]
        values[own] = measure.reduced(errors).double().cpu().numpy()
        maps.append(cell_means(errors.cpu().numpy(), measure.cells).astype(np.float32))
    return Errors(values, np.concatenate(maps))


def _windows(track: Track, starts: NDArray[np.int64], length: int) -> Tensor:
    """(B, T, ...) as stored, finite; rows over the ends of the video are those at the ends."""
    low, high = max(0, int(starts[0])), min(len(track), int(starts[-1]) + length)
    block = track.rows(low, high)
    if block.dtype.kind == "f" and not np.isfinite(block).all():
        raise DetectorError(
            f"features are not finite in rows {low} to {high}: extract or import them again"
        )
    at = np.clip(starts[:, None] + np.arange(length), 0, len(track) - 1) - low
    return torch.from_numpy(block[at])
