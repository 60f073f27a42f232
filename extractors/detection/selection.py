"""Which boxes of a frame are kept: within the frame, large and sure enough, each object once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .contract import Detections


@dataclass(frozen=True)
class Selection:
    """What a box must be to be kept.

    Attributes:
        score: smallest score.
        overlap: of two boxes with a larger intersection over union, the one with the lower score
            is dropped, whatever their classes.
        min_width: smallest width in pixels, within the frame.
        min_height: smallest height in pixels, within the frame.
        most: boxes a frame; those with the highest scores are kept.
    """

    score: float
    overlap: float
    min_width: float
    min_height: float
    most: int

    def apply(self, found: Detections, height: int, width: int) -> tuple[Detections, int]:
        """Clip boxes to the frame and choose.

        Args:
            found:
                Boxes in any order.
            height:
                Of the frame.
            width:
                Of the frame.

        Returns:
            The boxes that are kept, by falling score, and the number that `most` left out. Boxes
            outside of the frame and boxes without a whole pixel are never kept.
        """
        limits = np.array([width, height, width, height], np.float32)
        boxes = np.clip(found.boxes, 0, limits)
        sides = boxes[:, 2:] - boxes[:, :2]
        least = np.maximum([self.min_width, self.min_height], 1.0)
        good = (sides >= least).all(1) & (found.scores >= self.score)
        places = np.flatnonzero(good & np.isfinite(found.boxes).all(1))
        # By score, then from left to right, so that the order never depends on that of `found`.
        keys = (*boxes[places].T[::-1], -found.scores[places])
        places = places[np.lexsort(keys)]
        places = places[suppress(boxes[places], self.overlap)]
        left_out = max(0, len(places) - self.most)
        places = places[: self.most]
        chosen, clipped = found.take(places), boxes[places]
        masks = None
        if chosen.masks is not None:
            both = zip(chosen.masks, chosen.boxes, clipped, strict=True)
            masks = tuple(_clipped_mask(*each) for each in both)
        return replace(chosen, boxes=clipped, masks=masks), left_out


def pixel_box(box: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches: x0, y0, x1, y1, at least one each way.

    The box lies within the frame and is a pixel wide and high at least, so its pixels do too.
    """
    x0, y0 = (int(np.floor(value)) for value in box[:2])
    x1, y1 = (int(np.ceil(value)) for value in box[2:])
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def _clipped_mask(
    mask: NDArray[np.bool_], before: NDArray[np.float32], after: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """The part of a mask that is left of its box in the frame."""
    left, top, _, _ = pixel_box(before)
    x0, y0, x1, y1 = pixel_box(after)
    return mask[y0 - top : y1 - top, x0 - left : x1 - left]


def overlaps(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of one box with each of (n, 4) others: (n,); 0 for empty boxes."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    area = float(np.prod(box[2:] - box[:2]))
    union = area + np.prod(others[:, 2:] - others[:, :2], axis=1) - common
    share: NDArray[np.float32] = common / np.maximum(union, 1e-9)
    return share


def suppress(boxes: NDArray[np.float32], most: float) -> NDArray[np.int64]:
    """Keep the boxes that overlap no better one by more than `most`.

    Args:
        boxes:
            (n, 4), the best first.
        most:
            Largest intersection over union.

    Returns:
        (k,) the numbers of the boxes that are kept, rising.
    """
    rest = np.arange(len(boxes))
    kept = []
    while len(rest):
        first, rest = rest[0], rest[1:]
        kept.append(first)
        rest = rest[overlaps(boxes[first], boxes[rest]) <= most]
    return np.array(kept, np.int64)
