"""Boxes of a feature set of objects, drawn on the frames of the footage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ...extractors.footage.errors import SeekMismatch
from ...extractors.footage.guarded import guarded_frames
from ...extractors.footage.video import ProbeRow, in_order

LINE, INK = (255, 64, 32), (255, 255, 255)
TEXT = 11  # pixels, height of a line of text


@dataclass(frozen=True)
class Boxes:
    """The boxes of one frame.

    Attributes:
        corners: (n, 4) x0, y0, x1, y1 in pixels of the footage; x1 and y1 are not included.
        labels: what stands at each of them.
    """

    corners: NDArray[np.float32]
    labels: Sequence[str]


def frames_of(row: ProbeRow, wanted: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    """Some frames of a video, (H, W, 3) uint8 each; those after its end are left out.

    Raises:
        DecodeError: the footage cannot be read.
    """
    try:
        return _decoded(row, wanted)
    except SeekMismatch:
        return _decoded(in_order(row), wanted)


def _decoded(row: ProbeRow, wanted: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    found: dict[int, NDArray[np.uint8]] = {}
    for number in wanted:
        with guarded_frames(row, number, number + 1) as frames:
            found |= {frame.index: frame.image for frame in frames if frame.index == number}
    return found


def boxed(frame: NDArray[np.uint8], boxes: Boxes, width: int) -> NDArray[np.uint8]:
    """A frame in the size of a tile, with boxes.

    Args:
        frame:
            (H, W, 3) uint8 RGB.
        boxes:
            Of this frame; the first is drawn last, so that none covers it.
        width:
            Of the tile in pixels.

    Returns:
        (h, width, 3) uint8 RGB with the aspect of the frame.
    """
    scale = width / frame.shape[1]
    height = max(1, round(frame.shape[0] * scale))
    image = Image.fromarray(frame).resize((width, height))
    pen = ImageDraw.Draw(image)
    limits = np.array([width, height, width, height]) - 1
    places = np.clip(np.round(boxes.corners * scale) - [0, 0, 1, 1], 0, limits).astype(int)
    for (x0, y0, x1, y1), label in reversed(list(zip(places.tolist(), boxes.labels, strict=True))):
        pen.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=LINE, width=2)
        left = max(0, min(x0, width - 1 - round(pen.textlength(label))))
        top = y0 - TEXT - 1 if y0 > TEXT else y0 + 2
        pen.rectangle((left, top, left + pen.textlength(label) + 1, top + TEXT), fill=LINE)
        pen.text((left + 1, top), label, fill=INK)
    return np.asarray(image)
