"""Vectors of objects that a detector may compare: which person it is, and how a body is held.

Both are optional. Their networks run in fp32, one frame at a time, so that a vector depends on its
frame and box alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..base import Runtime
from ..device.inference import OnDevice, prepare
from ..device.resize import resize_frames
from ..errors import ExtractorError
from ..networks import osnet
from ..networks.rcnn import JOINTS, KEYPOINT_CARDS, build_keypoints
from ..weights.cards import ResolvedWeights, Weights
from ..weights.load import load_tensors
from .selection import pixel_box


class VectorNetwork(ABC):
    """A network that returns a vector for each box of a frame.

    Args:
        weights:
            Of the network.
    """

    def __init__(self, weights: ResolvedWeights) -> None:
        self.weights = weights
        self.network: Any = None
        self._place: OnDevice | None = None

    @abstractmethod
    def build(self) -> nn.Module:
        """Make the network without weights."""

    @abstractmethod
    def vectors(self, frame: torch.Tensor, boxes: NDArray[np.float32]) -> torch.Tensor:
        """(n, features) of boxes (n, 4), one or more, in a frame (H, W, 3) uint8 on the device."""

    def load(self, runtime: Runtime) -> None:
        """Put the network on the device.

        Raises:
            WeightsError: the weights are damaged or belong to another network.
        """
        network = self.build()
        tensors = load_tensors(self.weights, network.state_dict())
        network.load_state_dict({name: torch.from_numpy(v) for name, v in tensors.items()})
        self.network = prepare(network, "fp32", runtime.device)
        self._place = OnDevice(runtime)

    def look(
        self, frame: NDArray[np.uint8], boxes: NDArray[np.float32], features: int
    ) -> NDArray[np.float32]:
        """The vectors of boxes within a frame.

        Args:
            frame:
                (H, W, 3) uint8 RGB.
            boxes:
                (n, 4) within the frame.
            features:
                Numbers of a vector.

        Returns:
            (n, features) float32.

        Raises:
            ExtractorError: `load` was not called.
        """
        place = self._place
        if place is None:
            raise ExtractorError("vectors of objects: call load(runtime) first")
        if not len(boxes):
            return np.zeros((0, features), np.float32)
        (staged,) = place.stage([np.ascontiguousarray(frame)])
        found = place.turn(lambda: self.vectors(staged, boxes).float().cpu().numpy())
        return np.asarray(found, np.float32)


class Person(VectorNetwork):
    """OSNet on each box, resized to 256 x 128 without regard to its aspect, as in training."""

    def build(self) -> nn.Module:
        """Build OSNet."""
        return osnet.OSNet()

    def vectors(self, frame: torch.Tensor, boxes: NDArray[np.float32]) -> torch.Tensor:
        """(n, 512), each of length 1; one box at a time."""
        card = self.weights.card
        mean, std = (frame.new_tensor(v, dtype=torch.float32) for v in (card.mean, card.std))
        rows = []
        for x0, y0, x1, y1 in map(pixel_box, boxes):
            crop = resize_frames(frame[None, y0:y1, x0:x1].contiguous(), osnet.SIZE)
            pixels = (crop.float() - mean) / std  # (1, 256, 128, 3)
            rows.append(self.network(pixels.permute(0, 3, 1, 2)[:, :, None]))
        return nn.functional.normalize(torch.cat(rows))


class Pose(VectorNetwork):
    """Keypoint R-CNN: where 17 joints are within each box, whatever found the box."""

    def build(self) -> nn.Module:
        """Build the network."""
        return build_keypoints()

    def vectors(self, frame: torch.Tensor, boxes: NDArray[np.float32]) -> torch.Tensor:
        """(n, 34): of each joint its place to the right and down, as shares of the box."""
        from torchvision.models.detection.roi_heads import keypointrcnn_inference

        pictures, _ = self.network.transform([frame.permute(2, 0, 1).float() / 255])
        height, width = pictures.image_sizes[0]
        scale = torch.tensor([width / frame.shape[1], height / frame.shape[0]] * 2)
        places = (torch.from_numpy(boxes) * scale).to(frame.device, torch.float32)
        heads = self.network.roi_heads
        maps = self.network.backbone(pictures.tensors)
        pooled = heads.keypoint_roi_pool(maps, [places], pictures.image_sizes)
        heat = heads.keypoint_predictor(heads.keypoint_head(pooled))
        (joints,), _ = keypointrcnn_inference(heat, [places])
        sides = (places[:, 2:] - places[:, :2])[:, None]
        shares = (joints[..., :2] - places[:, None, :2]) / sides
        flat: torch.Tensor = shares.reshape(len(boxes), -1)
        return flat


@dataclass(frozen=True)
class VectorChoice:
    """A kind of vector by name.

    Attributes:
        build: makes its network.
        cards: what its slot takes; there is no default.
        features: numbers of a vector.
        flops: of an object (`each`) or of a frame, as multiply-adds times two.
        each: whether the work is that of an object.
    """

    build: Callable[[ResolvedWeights], VectorNetwork]
    cards: Sequence[Weights]
    features: int
    flops: float
    each: bool


VECTORS: dict[str, VectorChoice] = {
    "reid": VectorChoice(Person, osnet.CARDS, osnet.FEATURES, 2.0e9, each=True),
    "pose": VectorChoice(Pose, KEYPOINT_CARDS, 2 * JOINTS, 275e9, each=False),
}
"""Role of a vector -> what makes it; also the names of the slots."""
