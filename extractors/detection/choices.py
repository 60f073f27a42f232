"""The object detectors by name: their cards, their usual thresholds, and how they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..base import Precision
from ..networks import rcnn as rcnn_network
from ..networks import yolo as yolo_network
from ..networks import yolox as yolox_network
from ..networks.darknet import Darknet
from ..weights.cards import ResolvedWeights, Weights
from . import boxes_file
from .contract import ObjectDetector
from .motion import Motion, MotionSettings
from .rcnn import Rcnn
from .yolo import Yolo
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
        masks: whether the detector is to make masks.
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
        torch: whether its network runs in the precision asked for.
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
    return Motion(request.motion)


def _boxes(request: Request) -> ObjectDetector:
    return boxes_file.BoxesFile(request.needed())


def _yolox(request: Request) -> ObjectDetector:
    return Yolox(request.needed(), request.score, request.tile_scale)


def _darknet(build: Callable[[], Darknet], request: Request) -> ObjectDetector:
    weights, tiles = request.needed(), request.tile_scale
    return Yolo(build, weights, request.precision, request.score, tiles)


def _faster(request: Request) -> ObjectDetector:
    return _rcnn(request, mask_network=False)


def _mask(request: Request) -> ObjectDetector:
    return _rcnn(request, mask_network=True)


def _rcnn(request: Request, mask_network: bool) -> ObjectDetector:
    return Rcnn(
        request.needed(),
        request.score,
        request.tile_scale,
        mask_network=mask_network,
        masks=request.masks,
    )


CHOICES: dict[str, Choice] = {
    "yolox": Choice(_yolox, yolox_network.CARDS, score=0.3, flops=1.08e9, tiles=True),
    "yolov3": Choice(
        partial(_darknet, yolo_network.build_yolov3),
        yolo_network.CARDS,
        score=0.5,
        flops=65.9e9,
        tiles=True,
        torch=True,
    ),
    "yolov3_tiny": Choice(
        partial(_darknet, yolo_network.build_yolov3_tiny),
        yolo_network.TINY_CARDS,
        score=0.3,
        flops=5.6e9,
        tiles=True,
        torch=True,
    ),
    "fasterrcnn": Choice(_faster, rcnn_network.FASTER_CARDS, score=0.5, flops=268e9, tiles=True),
    "maskrcnn": Choice(
        _mask, rcnn_network.MASK_CARDS, score=0.5, flops=268e9, tiles=True, masks=True
    ),
    "boxes": Choice(_boxes, boxes_file.CARDS),
    "motion": Choice(_motion, knows_classes=False),
}
