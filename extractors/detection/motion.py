"""Object detector `motion`: what differs from the background of its clip, or from its neighbours.

It needs no weights and knows no classes. The background is the median of some frames around the
frame, so it follows from the clip alone, and rows do not depend on where a span begins. An object
that stands still for longer than half of the reach becomes background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..base import Runtime
from ..clips import Clip
from .contract import Detections, ObjectDetector, detections_of


@dataclass(frozen=True)
class MotionSettings:
    """Settings of `motion`.

    Attributes:
        reach: frames before and after that the background is taken from.
        samples: how many frames the median is taken of, evenly spread over the reach; fewer where
            the reach has fewer frames.
        threshold: a pixel whose smoothed grey value differs by more (0 to 255) is foreground.
        area: smallest number of foreground pixels of an object.
    """

    reach: int
    samples: int
    threshold: float
    area: int


class Motion(ObjectDetector):
    """Boxes around connected foreground; the score is the share of the box that is foreground.

    Args:
        settings:
            See there.
    """

    knows_classes: ClassVar[bool] = False

    def __init__(self, settings: MotionSettings) -> None:
        self._settings = settings

    @property
    def reach(self) -> int:
        """Frames before and after that the background is taken from."""
        return self._settings.reach

    def load(self, runtime: Runtime) -> None:
        """Do nothing: there is no network."""

    def computed_on(self, device: str) -> frozenset[str]:
        """Nowhere: there is no network."""
        return frozenset()

    def detect(self, clip: Clip, at: int) -> Detections:
        """Find moving objects."""
        labels, count = ndimage.label(self.foreground(clip, at), np.ones((3, 3), bool))
        boxes, scores = [], []
        for number, place in enumerate(ndimage.find_objects(labels, count), 1):
            mask = labels[place] == number
            if mask.sum() < self._settings.area:
                continue
            rows, columns = place
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
            scores.append(mask.mean())
        return detections_of(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores))

    def foreground(self, clip: Clip, at: int) -> NDArray[np.bool_]:
        """Where a frame differs from the background, or from both neighbours: (H, W).

        At the ends of a video, clips repeat its first or last frame. A repeated frame counts once,
        and neighbours are the two nearest other frames. A video of one frame has no foreground.
        """
        neighbours = self._neighbours(clip.index, at)
        if not neighbours:
            return np.zeros(clip.frames.shape[1:3], bool)
        around = [smooth_grey(clip.frames[place]) for place in self._sampled(clip.index, at)]
        picture = smooth_grey(clip.frames[at])
        background = np.median(np.stack(around), axis=0)
        # A pixel that differs from both neighbours moves now. One neighbour would do for where the
        # object was, too.
        steps = [np.abs(picture - smooth_grey(clip.frames[place])) for place in neighbours]
        change = np.maximum(np.abs(picture - background), np.minimum.reduce(steps))
        # The border is padded so that closing does not eat into objects at the frame's edge. More
        # than one step would join people who walk beside each other.
        found = np.pad(change > self._settings.threshold, 1)
        closed: NDArray[np.bool_] = ndimage.binary_closing(found, np.ones((3, 3), bool))
        return closed[1:-1, 1:-1]

    def _sampled(self, index: NDArray[np.int64], at: int) -> list[int]:
        """Places in a clip of the frames that the background is the median of, each frame once.

        They are evenly spread over the frames within reach: over those after it at the beginning.
        """
        reach = self._settings.reach
        _, first = np.unique(index[at - reach : at + reach + 1], return_index=True)
        last, middle = len(first) - 1, (len(first) - 1) // 2
        offsets = np.linspace(-middle, last - middle, min(self._settings.samples, len(first)))
        return [at - reach + int(first[middle + round(offset)]) for offset in offsets]

    def _neighbours(self, index: NDArray[np.int64], at: int) -> list[int]:
        """Places in a clip of the two nearest other frames; fewer where the video has no more."""
        found: dict[int, int] = {}  # number of the frame -> its place
        for step in range(1, self._settings.reach + 1):
            for place in (at - step, at + step):
                if index[place] != index[at]:
                    found.setdefault(int(index[place]), place)
            if len(found) > 1:
                break
        return list(found.values())


def smooth_grey(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey values by Rec. 601, averaged over 3 x 3 pixels: (H, W, 3) uint8 -> (H, W) float32."""
    grey = picture @ np.array([0.299, 0.587, 0.114], np.float32)
    smooth: NDArray[np.float32] = ndimage.uniform_filter(grey, 3)
    return smooth
