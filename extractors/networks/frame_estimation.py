"""What networks that predict or reconstruct frames have in common: windows, targets and losses.

Such a network is an encoder of clips, and has an objective of its own: to estimate one frame (or
all frames) of a window. Pictures are in [0, 1] at its boundary and in [-1, 1] inside (Liu et al.,
"Future Frame Prediction for Anomaly Detection", CVPR 2018, Sect. 4).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from .video_encoder import VideoEncoder


@dataclass(frozen=True)
class Estimate:
    """How well a network estimates the scored frame of each window.

    Attributes:
        squared: (B, H, W) squared error of each pixel, mean over the colours, of values in [0, 1].
        distance: (B,) mean distance of the features from a memory; None without one that scores.
    """

    squared: Tensor
    distance: Tensor | None = None


class FrameEstimator(VideoEncoder):
    """An encoder of clips with an objective of its own.

    Class attributes:
        distance_weight: weight of `Estimate.distance` in the published score; 0: it has none.

    Attributes:
        length: frames of a window of the objective.
        scored: number of the frame, from 0, that a window scores.
    """

    distance_weight: float = 0.0
    length: int
    scored: int

    @abstractmethod
    def objective(self, windows: Tensor) -> dict[str, Tensor]:
        """Compute the published losses of windows (B, 3, length, H, W); "total" is minimised.

        A memory that a rule updates is updated in training mode.
        """

    @abstractmethod
    def estimate(self, windows: Tensor) -> Estimate:
        """Measure the errors of the scored frames of windows (B, 3, length, H, W)."""


def signed(pictures: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]."""
    return pictures * 2 - 1


def in_fp32(values: Tensor) -> AbstractContextManager[object]:
    """Switch off autocast where values are: softmaxes over many items need fp32."""
    if values.is_meta:  # it has no autocast
        return nullcontext()
    return torch.autocast(values.device.type, enabled=False)


def squared_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared errors in the scale of [0, 1], of (B, C, H, W) in [-1, 1] -> (B, H, W)."""
    return ((found - wanted).float() / 2).square().mean(1)


def stacks(clips: Tensor, frames: int) -> Tensor:
    """Stack the frames that end in each frame of a clip: a 2-D network sees clips of any length.

    Frames before the first repeat the first.

    Args:
        clips:
            (B, C, T, H, W).
        frames:
            Of a stack.

    Returns:
        (B, T, frames * C, H, W); the colours of a frame are neighbours.
    """
    at = _stacked(clips.shape[2], frames, clips.device)
    return clips[:, :, at].permute(0, 2, 3, 1, 4, 5).flatten(2, 3)


def _stacked(length: int, frames: int, device: torch.device) -> Tensor:
    """Places in a clip of the frames of each stack: (length, frames)."""
    ends = torch.arange(length, device=device)
    return (ends[:, None] + torch.arange(1 - frames, 1, device=device)).clamp_min(0)


def encoded_stacks(
    clips: Tensor, frames: int, encoder: Callable[[Tensor], Sequence[Tensor]]
) -> Tensor:
    """Run a 2-D encoder on the stacks of clips; return its last features, (B, C', T, H', W')."""
    stacked = stacks(signed(clips), frames)
    found = encoder(stacked.flatten(0, 1))[-1]
    return found.reshape(*stacked.shape[:2], *found.shape[1:]).transpose(1, 2)


def gathered_stacks(
    pictures: Tensor, index: Tensor, frames: int, encoder: Callable[[Tensor], Sequence[Tensor]]
) -> Tensor:
    """Return what `encoded_stacks` does of clips cut from the same frames, each stack encoded once.

    Args:
        pictures:
            (F, H, W, C), the frames.
        index:
            (B, T) int64, those of each clip.
        frames:
            Of a stack.
        encoder:
            As in `encoded_stacks`.

    Returns:
        (B, C', T, H', W').
    """
    wanted = index[:, _stacked(index.shape[1], frames, index.device)]  # (B, T, frames)
    different, which = torch.unique(wanted.flatten(0, 1), dim=0, return_inverse=True)
    found = encoder(signed(pictures).permute(0, 3, 1, 2)[different].flatten(1, 2))[-1]
    return found[which.reshape(index.shape)].transpose(1, 2)


def stack_before(windows: Tensor) -> Tensor:
    """All frames of windows but the last as one stack: (B, C, T, H, W) -> (B, (T - 1) C, H, W)."""
    return signed(windows[:, :, :-1]).transpose(1, 2).flatten(1, 2)


def intensity_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error of pixels (Liu et al. 2018, Sect. 3.2, as a mean)."""
    return (found - wanted).square().mean()


def gradient_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean error of the absolute differences of neighbours (Liu et al. 2018, Sect. 3.2).

    Args:
        found:
            (..., H, W).
        wanted:
            The same shape.
    """
    loss = found.new_zeros(())
    for axis in (-2, -1):
        loss = loss + (found.diff(dim=axis).abs() - wanted.diff(dim=axis).abs()).abs().mean()
    return loss
