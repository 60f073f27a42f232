"""Object detectors `yolov3` and `yolov3_tiny`: networks of darknet in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..base import Precision, Runtime
from ..device.inference import VideoNetwork, load_video_network
from ..errors import ExtractorError
from ..networks.darknet import Darknet
from ..networks.yolo import FILL, SIDE
from ..weights.cards import ResolvedWeights
from .contract import Detections, detections_of, sure_enough
from .tiles import PictureDetector, fitted


class Yolo(PictureDetector):
    """A network of darknet, one picture at a time, so that boxes do not depend on batches.

    Args:
        build:
            Makes the network.
        weights:
            Of the network.
        precision:
            Of the network.
        least:
            Smallest score, objectness times the best class probability, of what is returned.
        scale:
            See `PictureDetector`.
    """

    def __init__(
        self,
        build: Callable[[], Darknet],
        weights: ResolvedWeights,
        precision: Precision,
        least: float,
        scale: float | None,
    ) -> None:
        super().__init__(scale)
        self._build = build
        self._weights = weights
        self._precision: Precision = precision
        self._least = least
        self._network: VideoNetwork | None = None

    @property
    def side(self) -> int:
        """Side of the network's input."""
        return SIDE

    def load(self, runtime: Runtime) -> None:
        """Put the network on the device.

        Raises:
            WeightsError: the weights are damaged.
        """
        one = replace(runtime, batch_size=1)
        self._network = load_video_network(self._build, self._weights, self._precision, one)

    def pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """The objects of each picture.

        Raises:
            ExtractorError: `load` was not called.
        """
        if self._network is None:
            raise ExtractorError("yolov3: call load(runtime) first")
        return [self._picture(self._network, picture) for picture in pictures]

    def _picture(self, network: VideoNetwork, picture: NDArray[np.uint8]) -> Detections:
        square, factor, (left, top) = fitted(picture, SIDE, FILL, centred=True)
        found = network(torch.from_numpy(square)[None, None])[0].cpu().numpy()
        found, scores = sure_enough(found, self._least)
        boxes = (found[:, :4] - np.array([left, top] * 2, np.float32)) / factor
        return detections_of(boxes, scores, found[:, 4], found[:, 5:])
