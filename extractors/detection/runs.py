"""Masks of objects as run lengths: rows of (object, first pixel, number of pixels)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .selection import pixel_box


def encode_masks(
    masks: Sequence[NDArray[np.bool_]], boxes: NDArray[np.float32], width: int
) -> NDArray[np.int32]:
    """Write the masks of a frame as runs.

    Args:
        masks:
            Of each box, (box rows, box columns), see `pixel_box`.
        boxes:
            (n, 4) within the frame.
        width:
            Of the frame.

    Returns:
        (k, 3): the number of the object within its frame, the first pixel of the run (row times
        width plus column), and its length; runs end at the end of a row of their box. In order of
        objects, then of pixels.
    """
    found = [np.empty((0, 3), np.int32)]
    for number, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        left, top, _, _ = pixel_box(box)
        edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
        rows, starts = np.nonzero(edges == 1)
        stops = np.nonzero(edges == -1)[1]
        first = (rows + top) * width + starts + left
        object_of = np.full(len(first), number)
        found.append(np.stack([object_of, first, stops - starts], axis=1).astype(np.int32))
    return np.concatenate(found)


def decode_masks(runs: NDArray[np.int32], count: int, height: int, width: int) -> NDArray[np.bool_]:
    """Draw the runs of a frame: (count, height, width), a mask for each object."""
    masks = np.zeros((count, height * width), bool)
    for number, first, length in runs.tolist():
        masks[number, first : first + length] = True
    return masks.reshape(count, height, width)
