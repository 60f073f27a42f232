"""Crops of objects: the same box in every frame around, resized to a square."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .selection import pixel_box


def cut_crops(
    frames: NDArray[np.uint8], boxes: NDArray[np.float32], side: int
) -> NDArray[np.uint8]:
    """Cut the same boxes out of every frame, without padding and without regard to their aspect.

    Args:
        frames:
            (T, H, W, 3) uint8.
        boxes:
            (n, 4) within the frame.
        side:
            Of the crops.

    Returns:
        (n, T, side, side, 3) uint8, bilinear with antialias.
    """
    from ..device.pixels import tensor_of  # torch takes seconds to import
    from ..device.resize import resize_frames

    crops = np.empty((len(boxes), len(frames), side, side, 3), np.uint8)
    for crop, box in zip(crops, boxes, strict=True):
        x0, y0, x1, y1 = pixel_box(box)
        part = tensor_of(np.ascontiguousarray(frames[:, y0:y1, x0:x1]))
        crop[:] = resize_frames(part, (side, side)).numpy()
    return crops
