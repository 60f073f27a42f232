"""Object detectors `fasterrcnn` and `maskrcnn`: torchvision's networks by card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..base import Runtime
from ..device.inference import OnDevice, prepare
from ..errors import ExtractorError
from ..networks.coco import COCO
from ..networks.rcnn import build_rcnn, coco_numbers
from ..weights.cards import ResolvedWeights
from ..weights.load import load_tensors
from .contract import Detections, detections_of
from .selection import pixel_box
from .tiles import PictureDetector

SIDE = 640  # of tiles; the network enlarges pictures to 800 pixels itself


class Rcnn(PictureDetector):
    """Faster or Mask R-CNN in fp32, one picture at a time.

    Args:
        weights:
            Of the network.
        least:
            Smallest score of what is returned.
        scale:
            See `PictureDetector`.
        mask_network:
            Mask R-CNN, else Faster R-CNN.
        masks:
            Whether to return its masks.
    """

    def __init__(
        self,
        weights: ResolvedWeights,
        least: float,
        scale: float | None,
        *,
        mask_network: bool,
        masks: bool,
    ) -> None:
        super().__init__(scale)
        self._weights = weights
        self._least = least
        self._mask_network = mask_network
        self._masks = masks
        self._numbers = coco_numbers()
        self._place: OnDevice | None = None
        self._network: Any = None

    @property
    def side(self) -> int:
        """Side of a tile."""
        return SIDE

    def load(self, runtime: Runtime) -> None:
        """Put the network on the device.

        Raises:
            WeightsError: the weights are damaged.
        """
        network = build_rcnn(self._mask_network, self._least)
        tensors = load_tensors(self._weights, network.state_dict())
        network.load_state_dict({name: torch.from_numpy(v) for name, v in tensors.items()})
        self._network = prepare(network, "fp32", runtime.device)
        self._place = OnDevice(runtime)

    def pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """The objects of each picture; those of classes that are none of the 80 are left out.

        Raises:
            ExtractorError: `load` was not called.
        """
        if self._place is None:
            raise ExtractorError("rcnn: call load(runtime) first")
        return [self._picture(self._place, picture) for picture in pictures]

    def _picture(self, place: OnDevice, picture: NDArray[np.uint8]) -> Detections:
        (staged,) = place.stage([np.ascontiguousarray(picture)])

        def work() -> dict[str, NDArray[Any]]:
            (found,) = self._network([staged.permute(2, 0, 1).float().div_(255)])
            return {name: values.cpu().numpy() for name, values in found.items()}

        found = place.turn(work)
        numbers = self._numbers[found["labels"]]
        known = np.flatnonzero((numbers >= 0) & (found["scores"] >= self._least))
        boxes, scores = found["boxes"][known], found["scores"][known]
        classes = np.zeros((len(known), len(COCO)), np.float32)
        classes[np.arange(len(known)), numbers[known]] = scores
        masks = None
        if self._masks:
            masks = [
                _within(found["masks"][i, 0] > 0.5, box)
                for i, box in zip(known, boxes, strict=True)
            ]
        # The softmax has the background among its classes: the score is that there is an object of
        # this class. So the objectness is 1, and the product of both is the score.
        return detections_of(boxes, scores, np.ones(len(known)), classes, masks)


def _within(mask: NDArray[np.bool_], box: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The part of a mask of the whole picture that lies in a box."""
    x0, y0, x1, y1 = pixel_box(box)
    return mask[y0:y1, x0:x1]
