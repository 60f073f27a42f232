"""The object detectors by name: their cards, their usual thresholds, and how they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..base import Precision
from ..networks import yolox as yolox_network
from ..weights.cards import ResolvedWeights, Weights
from . import boxes_file
from .contract import ObjectDetector
from .motion import Motion, MotionSettings
from .yolox import Yolox


@dataclass(frozen=True)
class Request:
    """What is known when a detector is made.

    Attributes:
        weights: of the detector; None where it takes none.
        precision: of its network.
        score: smallest score of a box.
        tile_scale: how much frames are enlarged before they are cut into tiles; None: no tiles.
        motion: settings of `motion`.
        masks: whether boxes come with masks.
    """

    weights: ResolvedWeights | None
    precision: Precision
    score: float
    tile_scale: float | None
    motion: MotionSettings
    masks: bool

    def needed(self) -> ResolvedWeights:
        """The weights of a detector that takes some."""
        assert self.weights is not None  # slots were checked when the extractor was made
        return self.weights


@dataclass(frozen=True)
class Choice:
    """An object detector by name.

    Attributes:
        build: makes it.
        cards: what its slot takes, the default first; empty where it has no weights.
        score: smallest score of a box, unless a setting says otherwise.
        flops: of one picture, as multiply-adds times two.
        tiles: whether it can look at tiles.
        masks: whether it can make masks.
        knows_classes: whether it states probabilities of classes.
        torch: whether its network runs in torch, in the precision asked for.
    """

    build: Callable[[Request], ObjectDetector]
    cards: tuple[Weights, ...] = ()
    score: float = 0.0
    flops: float = 0.0
    tiles: bool = False
    masks: bool = False
    knows_classes: bool = True
    torch: bool = False


def _motion(request: Request) -> ObjectDetector:
    return Motion(request.motion, masks=request.masks)


def _boxes(request: Request) -> ObjectDetector:
    return boxes_file.BoxesFile(request.needed())


def _yolox(request: Request) -> ObjectDetector:
    return Yolox(request.needed(), request.score, request.tile_scale)


CHOICES: dict[str, Choice] = {
    "yolox": Choice(_yolox, yolox_network.CARDS, score=0.3, flops=1.08e9, tiles=True),
    "boxes": Choice(_boxes, boxes_file.CARDS),
    "motion": Choice(_motion, masks=True, knows_classes=False),
}
