"""The contract of object detectors: a frame of a clip -> boxes with scores and classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..base import Runtime
from ..clips import Clip
from ..errors import ExtractorError
from ..networks.coco import COCO


@dataclass(frozen=True)
class Detections:
    """The objects of one frame.

    Attributes:
        boxes: (n, 4) float32, x0, y0, x1, y1 in pixels of the frame; x1 and y1 are not included.
        scores: (n,) float32 in [0, 1], by which boxes are chosen.
        objectness: (n,) float32 in [0, 1]: that there is an object, of whatever class.
        classes: (n, 80) float32 in [0, 1]: probability of each COCO class if there is an object;
            zeros where the detector does not know classes.
        masks: of each box, (box rows, box columns) bool: the pixels of the object within the box
            (`pixel_box`); None where the detector makes none.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    objectness: NDArray[np.float32]
    classes: NDArray[np.float32]
    masks: tuple[NDArray[np.bool_], ...] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, chosen: NDArray[np.int64]) -> Detections:
        """The objects of these numbers, in this order."""
        masks = None if self.masks is None else tuple(self.masks[i] for i in chosen.tolist())
        return Detections(
            self.boxes[chosen],
            self.scores[chosen],
            self.objectness[chosen],
            self.classes[chosen],
            masks,
        )


def detections_of(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    objectness: NDArray[np.floating] | None = None,
    classes: NDArray[np.floating] | None = None,
    masks: Sequence[NDArray[np.bool_]] | None = None,
) -> Detections:
    """Detections in float32; without an objectness it is the score, without classes they are 0."""
    count = len(boxes)
    known = np.zeros((count, len(COCO)), np.float32) if classes is None else classes
    return Detections(
        np.asarray(boxes, np.float32).reshape(count, 4),
        np.asarray(scores, np.float32),
        np.asarray(scores if objectness is None else objectness, np.float32),
        np.asarray(known, np.float32),
        None if masks is None else tuple(masks),
    )


def sure_enough(
    found: NDArray[np.float32], least: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The rows of a YOLO network with a score of `least` or more, and their scores.

    Args:
        found:
            (n, 85): x0, y0, x1, y1, objectness, class probabilities.
        least:
            Smallest score: objectness times the best class probability.

    Raises:
        ExtractorError: scores are no numbers; without this check they would be no objects.
    """
    scores = found[:, 4] * found[:, 5:].max(axis=1)
    if np.isnan(scores).any():
        raise ExtractorError(
            "the object detector returns scores that are no numbers: its weights are damaged, or "
            "its precision is too low"
        )
    return found[scores >= least], scores[scores >= least]


def joined(parts: Sequence[Detections]) -> Detections:
    """The detections of several sources together; masks only where all have them."""
    masks = [part.masks for part in parts if part.masks is not None]
    whole = len(masks) == len(parts)
    return Detections(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.objectness for part in parts]),
        np.concatenate([part.classes for part in parts]),
        tuple(mask for each in masks for mask in each) if whole else None,
    )


class ObjectDetector(ABC):
    """Finds objects in the middle frame of a clip; what it finds depends on the clip only.

    Class attributes:
        knows_classes: whether it states probabilities of classes.
    """

    knows_classes: ClassVar[bool] = True

    @property
    def reach(self) -> int:
        """Frames before and after the middle one that it reads."""
        return 0

    @abstractmethod
    def load(self, runtime: Runtime) -> None:
        """Put its network on the device, or read its file."""

    def computed_on(self, device: str) -> frozenset[str]:
        """Where its network computes if this device is asked for; see `Extractor`.

        It is empty for a detector without a network.
        """
        return frozenset({device})

    def check_end(self, video: str, n_frames: int) -> None:  # noqa: B027  most know nothing of it
        """Refuse a video that what the detector knows of it contradicts; see `Extractor`.

        Raises:
            ExtractorError: they do not belong together.
        """

    def check_videos(self, paths: Sequence[str]) -> None:  # noqa: B027  as above
        """Refuse videos that the detector would take for one; see `Extractor`.

        Raises:
            ExtractorError: there are some.
        """

    @abstractmethod
    def detect(self, clip: Clip, at: int) -> Detections:
        """Find the objects of one frame.

        Args:
            clip:
                Frames (T, H, W, 3) uint8 RGB.
            at:
                Which of them; there are `reach` frames before and after it.

        Returns:
            Boxes in any order; they may overlap, and may reach beyond the frame.
        """

    def detect_each(self, clips: Sequence[Clip], at: int) -> Iterator[Detections]:
        """Find the objects of several clips, in their order: what `detect` finds in each.

        A detector may look at several frames at once.
        """
        return (self.detect(clip, at) for clip in clips)
