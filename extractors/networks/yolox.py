"""YOLOX: the card of its ONNX file, and how its outputs become boxes.

Paper: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430, Sect. 2.1: an
anchor-free head on strides 8, 16 and 32 with one prediction a cell. Input: BGR, 0 to 255, the
picture in the top left corner of a square that is filled up with 114 (the release 0.1.1 of the
authors' code).
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from ..weights.cards import BYTES, Arrays, LayoutError, UrlSource, Weights

STRIDES = (8, 16, 32)
FILL = 114
VALUES = 85  # of a cell: centre, size, objectness, 80 classes
# The key of TensorProto.external_data; its length may be written with zeros in front.
_EXTERNAL = re.compile(rb"\x0a(?:\x08|\x88\x80*\x00)location")


def decode(cells: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Turn the network's outputs into boxes.

    Args:
        cells:
            (n, 85): offset of the centre from the cell, log of the size, both in strides;
            objectness and class probabilities in [0, 1].
        side:
            Of the square input.

    Returns:
        (n, 85): x0, y0, x1, y1 in pixels of the input; objectness and class probabilities.
    """
    corner, stride = _cells(side)
    centres = (cells[:, :2] + corner) * stride
    halves = np.exp(cells[:, 2:4]) * stride / 2
    return np.concatenate([centres - halves, centres + halves, cells[:, 4:]], axis=1)


def cell_count(side: int) -> int:
    """Cells of a square input."""
    return sum((side // stride) ** 2 for stride in STRIDES)


def _cells(side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row of every cell, (n, 2), and its stride, (n, 1)."""
    corners, strides = [], []
    for stride in STRIDES:
        count = side // stride
        rows, columns = np.divmod(np.arange(count * count), count)
        corners.append(np.stack([columns, rows], axis=1))
        strides.append(np.full((count * count, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)


def from_onnx(arrays: Arrays) -> dict[str, NDArray[np.uint8]]:
    """Keep an ONNX file as it is; ONNX Runtime reads it.

    Raises:
        LayoutError: it is no ONNX file, or keeps its numbers in other files.
    """
    content = arrays[BYTES]
    data = content.tobytes()
    if data[:1] != b"\x08" or b"\x3a" not in data[:4096]:  # IR version first, then the graph
        raise LayoutError("it is no ONNX file")
    if _EXTERNAL.search(data):
        raise LayoutError("it keeps its numbers in other files: export it as one file")
    return {BYTES: content}


CARDS = (
    Weights(
        name="yolox_nano.coco",
        file="yolox_nano.onnx",
        sha256="e8af074932d4ed7e232278e3055cefcdea3edf178874a3694ae292649fb464dd",
        sources=(
            UrlSource(
                "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/"
                "yolox_nano.onnx"
            ),
        ),
        layout="YOLOX (ONNX)",
        licence="Apache-2.0 by the repository Megvii-BaseDetection/YOLOX",
        origin="Megvii-BaseDetection/YOLOX 0.1.1rc0: YOLOX-nano at 416 pixels, trained on COCO "
        "2017; 25.8 AP",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        extra={"input": "BGR 0..255, square, filled up with 114"},
        convert=from_onnx,
        opaque=True,
    ),
)
