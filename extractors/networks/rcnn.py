"""Faster, Mask and Keypoint R-CNN of torchvision: how they are built, their cards, their classes.

Papers: Ren et al., "Faster R-CNN", NeurIPS 2015; He et al., "Mask R-CNN", ICCV 2017; with the
feature pyramid of Lin et al., CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.faster_rcnn import FasterRCNN_ResNet50_FPN_Weights

from ..weights.cards import Arrays, LayoutError, UrlSource, Weights
from .coco import COCO

CLASSES = 91  # with the background and the numbers that COCO does not use
MOST = 500  # boxes of a picture
JOINTS = 17  # of a person, in the order of COCO: nose, eyes, ears, shoulders, ... ankles
_URL = "https://download.pytorch.org/models/"


def build_rcnn(masks: bool, least: float) -> nn.Module:
    """Build the network without weights.

    Args:
        masks:
            Mask R-CNN, else Faster R-CNN.
        least:
            Smallest score of a box.
    """
    make: Any = detection.maskrcnn_resnet50_fpn if masks else detection.fasterrcnn_resnet50_fpn
    network: nn.Module = make(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES,
        box_score_thresh=least,
        box_detections_per_img=MOST,
    )
    return _as_trained(network)


def build_keypoints() -> nn.Module:
    """Build Keypoint R-CNN without weights: two classes, person and background."""
    network: nn.Module = detection.keypointrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=2, num_keypoints=JOINTS
    )
    return _as_trained(network)


def _as_trained(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0  # with which the published weights were trained
    return network


def coco_numbers() -> NDArray[np.int64]:
    """(91,) the number of each of torchvision's classes among the 80; -1 where it has none."""
    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return np.array([COCO.index(name) if name in COCO else -1 for name in names], np.int64)


def from_faster(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Take torchvision's state dict of Faster R-CNN.

    Raises:
        LayoutError: the file is not that network.
    """
    return _checked(arrays, masks=False)


def from_mask(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Take torchvision's state dict of Mask R-CNN.

    Raises:
        LayoutError: the file is not that network.
    """
    return _checked(arrays, masks=True)


def from_keypoints(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Take torchvision's state dict of Keypoint R-CNN.

    Raises:
        LayoutError: the file is not that network.
    """
    name = "roi_heads.keypoint_predictor.kps_score_lowres.weight"
    if name not in arrays or arrays[name].shape[1] != JOINTS:
        raise LayoutError(f"it has no {name!r} for {JOINTS} joints: it is not Keypoint R-CNN")
    return dict(arrays)


def _checked(arrays: Arrays, masks: bool) -> dict[str, NDArray[Any]]:
    name = "roi_heads.box_predictor.cls_score.weight"
    if name not in arrays or arrays[name].shape[0] != CLASSES:
        raise LayoutError(f"it has no {name!r} for the {CLASSES} classes of torchvision")
    if masks != ("roi_heads.mask_predictor.mask_fcn_logits.weight" in arrays):
        raise LayoutError("it is Faster R-CNN" if masks else "it is Mask R-CNN")
    return dict(arrays)


def _card(
    name: str,
    file: str,
    origin: str,
    kind: str,
    convert: Callable[[Arrays], dict[str, NDArray[Any]]],
) -> Weights:
    return Weights(
        name=name,
        file=file,
        sha256=None,  # torchvision states the first eight digits, in the name of the file
        sources=(UrlSource(f"{_URL}{file}"),),
        layout=f"torchvision ({kind} R-CNN, state dict)",
        licence="BSD-3-Clause by the repository pytorch/vision; not stated with the file",
        origin=f"torchvision: {origin}, trained on COCO 2017",
        mean=(0.0, 0.0, 0.0),  # the network normalises by itself
        std=(255.0, 255.0, 255.0),
        convert=convert,
    )


FASTER_CARDS = (
    _card(
        "fasterrcnn.coco",
        "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        "Faster R-CNN ResNet-50 FPN COCO_V1, 37.0 AP",
        "Faster",
        from_faster,
    ),
)
MASK_CARDS = (
    _card(
        "maskrcnn.coco",
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        "Mask R-CNN ResNet-50 FPN COCO_V1, 37.9 AP of boxes, 34.6 of masks",
        "Mask",
        from_mask,
    ),
)
KEYPOINT_CARDS = (
    _card(
        "keypointrcnn.coco",
        "keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
        "Keypoint R-CNN ResNet-50 FPN COCO_V1",
        "Keypoint",
        from_keypoints,
    ),
)
