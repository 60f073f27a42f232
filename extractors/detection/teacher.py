"""A teacher: an ImageNet classifier that looks at the crops of objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..base import Precision, Runtime
from ..device.inference import VideoNetwork, load_video_network
from ..device.resize import resize_frames
from ..errors import ExtractorError
from ..networks.imagenet import CLASSES, Teacher
from ..weights.cards import ResolvedWeights


@dataclass(frozen=True)
class Lesson:
    """What a teacher says of n crops.

    Attributes:
        logits: (n, 1000) float32, before the softmax.
        features: (n, features) float32, pooled.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


class CropTeacher:
    """A classifier in its slot.

    Args:
        teacher:
            The network.
        weights:
            Of the network.
        precision:
            Of the network.
        side:
            That crops are resized to (SSMTL, Sect. 3.3, says only that teacher and student see the
            same crop).
    """

    def __init__(
        self, teacher: Teacher, weights: ResolvedWeights, precision: Precision, side: int
    ) -> None:
        self._teacher = teacher
        self._weights = weights
        self._precision: Precision = precision
        self._side = side
        self._network: VideoNetwork | None = None

    def load(self, runtime: Runtime) -> None:
        """Put the network on the device.

        Raises:
            WeightsError: the weights are damaged.
        """
        build = self._teacher.build
        self._network = load_video_network(build, self._weights, self._precision, runtime)

    def look(self, crops: NDArray[np.uint8]) -> Lesson:
        """Classify crops (n, side, side, 3) uint8.

        Raises:
            ExtractorError: `load` was not called.
        """
        if self._network is None:
            raise ExtractorError("teacher: call load(runtime) first")
        if not len(crops):
            width = CLASSES + self._teacher.features
            rows = np.empty((0, width), np.float32)
        else:
            pictures = resize_frames(torch.from_numpy(crops), (self._side, self._side))
            rows = self._network(pictures[:, None]).cpu().numpy()
        return Lesson(rows[:, :CLASSES], rows[:, CLASSES:])
