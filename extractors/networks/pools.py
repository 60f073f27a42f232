"""Maximum pools that need no places of the maxima: on a CPU maxima of neighbours are quicker.

`max_pool2d` and `max_pool3d` of torch also store where each maximum lies, eight bytes a value.
Training needs that; and with equal values a gradient would go to both of them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def max_of_squares(x: Tensor) -> Tensor:
    """Max pool 2 x 2, stride 2: (B, C, H, W) -> (B, C, H / 2, W / 2), a last odd one dropped."""
    if not _by_maxima(x):
        return functional.max_pool2d(x, 2)
    height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    x = torch.maximum(x[..., :width:2], x[..., 1:width:2])
    return torch.maximum(x[:, :, :height:2], x[:, :, 1:height:2])


def max_of_frames(x: Tensor) -> Tensor:
    """The maximum over all frames: (B, C, T, H, W) -> (B, C, H, W)."""
    if not _by_maxima(x):
        return x.amax(2)
    found = x[:, :, 0]
    for frame in range(1, x.shape[2]):
        found = torch.maximum(found, x[:, :, frame])
    return found


def max_of_frame_pairs(x: Tensor) -> Tensor:
    """Max pool over time, 2 frames, stride 2; a last odd frame is dropped."""
    if not _by_maxima(x):
        return functional.max_pool3d(x, (2, 1, 1), (2, 1, 1))
    frames = x.shape[2] // 2 * 2
    return torch.maximum(x[:, :, :frames:2], x[:, :, 1:frames:2])


def _by_maxima(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_grad_enabled()
