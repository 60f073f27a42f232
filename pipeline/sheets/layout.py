"""Tiles with a line of text below each, in reading order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

GAP, LABEL = 4, 12  # pixels between tiles, and of a line of text
GROUND, INK = (24, 24, 24), (220, 220, 220)


def tiled(
    pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    labels: Sequence[str],
    width: int,
    columns: int,
    caption: str = "",
) -> NDArray[np.uint8]:
    """Lay pictures of one size on a sheet.

    Args:
        pictures:
            One or more, (H, W, 3) uint8 RGB.
        labels:
            The text below each.
        width:
            Of a tile in pixels; its height follows from the shape of the pictures.
        columns:
            Tiles side by side at most.
        caption:
            A line below all tiles.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    rows, across = pictures[0].shape[:2]
    height = max(1, round(width * rows / across))
    columns = min(columns, len(pictures))
    step_x, step_y = width + GAP, height + LABEL + GAP
    bottom = -(-len(pictures) // columns) * step_y + GAP
    size = (columns * step_x + GAP, bottom + (LABEL + GAP if caption else 0))
    sheet = Image.new("RGB", size, GROUND)
    pen = ImageDraw.Draw(sheet)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = GAP + i % columns * step_x, GAP + i // columns * step_y
        sheet.paste(Image.fromarray(picture).resize((width, height)), (x, y))
        pen.text((x, y + height), label, fill=INK)
    pen.text((GAP, bottom), caption, fill=INK)
    return np.asarray(sheet)
