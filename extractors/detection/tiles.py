"""Views of a frame: the whole, and enlarged tiles in which small objects are large enough."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..clips import Clip
from .contract import Detections, ObjectDetector, joined

EDGE = 1.0  # pixels of a tile: a box that comes closer to an inner edge is cut by it


@dataclass(frozen=True)
class Tile:
    """A part of an enlarged frame.

    Attributes:
        top: first row.
        left: first column.
        bottom: one past the last row.
        right: one past the last column.
    """

    top: int
    left: int
    bottom: int
    right: int


def tiles_of(height: int, width: int, side: int) -> list[Tile]:
    """Cover a picture with squares, as few as possible and evenly spread.

    Args:
        height:
            Of the picture.
        width:
            Of the picture.
        side:
            Of a tile; in a picture that is smaller, the tile is cut off.
    """
    tops, lefts = _starts(height, side), _starts(width, side)
    return [
        Tile(top, left, min(top + side, height), min(left + side, width))
        for top in tops
        for left in lefts
    ]


def _starts(length: int, side: int) -> list[int]:
    count = -(-length // side)
    if count < 2:
        return [0]
    return [i * (length - side) // (count - 1) for i in range(count)]


def cut_by_edges(
    boxes: NDArray[np.float32], tile: Tile, height: int, width: int
) -> NDArray[np.bool_]:
    """Which boxes (n, 4), in pixels of the tile, touch an edge that is inside of the picture."""
    rows, columns = tile.bottom - tile.top, tile.right - tile.left
    return np.asarray(
        ((boxes[:, 0] < EDGE) & (tile.left > 0))
        | ((boxes[:, 1] < EDGE) & (tile.top > 0))
        | ((boxes[:, 2] > columns - EDGE) & (tile.right < width))
        | ((boxes[:, 3] > rows - EDGE) & (tile.bottom < height))
    )


@dataclass(frozen=True)
class Views:
    """What is looked at of a frame.

    Attributes:
        pictures: the frame (H, W, 3), and its tiles.
        tiles: of the enlarged frame.
        size: height and width of the enlarged frame.
    """

    pictures: list[NDArray[np.uint8]]
    tiles: list[Tile]
    size: tuple[int, int]

    def together(self, found: Sequence[Detections]) -> Detections:
        """The objects of all views in pixels of the frame, without those that an edge cuts."""
        whole, *parts = found
        height, width = self.size
        rows, columns = self.pictures[0].shape[:2]
        factor = np.array([columns / width, rows / height] * 2, np.float32)
        for tile, each in zip(self.tiles, parts, strict=True):
            inside = ~cut_by_edges(each.boxes, tile, height, width)
            kept = each.take(np.flatnonzero(inside))
            offset = np.array([tile.left, tile.top] * 2, np.float32)
            whole = joined([whole, replace(kept, boxes=(kept.boxes + offset) * factor)])
        return whole


class PictureDetector(ObjectDetector):
    """A detector that looks at single pictures of any size: the frame, and tiles of it.

    Args:
        scale:
            How much the frame is enlarged before it is cut into tiles of `side` pixels; None looks
            at the whole frame only.
    """

    def __init__(self, scale: float | None) -> None:
        self._scale = scale

    @property
    @abstractmethod
    def side(self) -> int:
        """Side of a tile: of the pictures that suit the network best."""

    @abstractmethod
    def pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """The objects of each picture (H, W, 3) uint8, in its pixels."""

    def detect(self, clip: Clip, at: int) -> Detections:
        """Find objects in the frame and its tiles; what an inner edge cuts is dropped."""
        views = self.views(clip.frames[at])
        return views.together(self.pictures(views.pictures))

    def views(self, frame: NDArray[np.uint8]) -> Views:
        """What is looked at of a frame."""
        if self._scale is None:
            return Views([frame], [], (1, 1))
        large = enlarged(frame, self._scale)
        height, width = large.shape[:2]
        tiles = tiles_of(height, width, self.side)
        if len(tiles) == 1:  # the whole frame, once more
            tiles = []
        parts = [large[t.top : t.bottom, t.left : t.right] for t in tiles]
        return Views([frame, *parts], tiles, (height, width))


def enlarged(frame: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Resize a frame (H, W, 3) by a factor, bicubic."""
    from ..device.pixels import tensor_of  # torch takes seconds to import
    from ..device.resize import resize_frames

    height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
    picture = tensor_of(np.ascontiguousarray(frame))[None]
    large: NDArray[np.uint8] = resize_frames(picture, (height, width), "bicubic")[0].numpy()
    return large


def fitted(
    picture: NDArray[np.uint8], side: int, fill: int, *, centred: bool
) -> tuple[NDArray[np.uint8], float, tuple[int, int]]:
    """Put a picture into a square, with its aspect kept.

    Args:
        picture:
            (H, W, 3) uint8.
        side:
            Of the square.
        fill:
            Grey value of what stays empty.
        centred:
            In the middle, else in the top left corner.

    Returns:
        (side, side, 3) uint8; the factor by which the picture was resized; the column and row
        where it begins.
    """
    from ..device.pixels import tensor_of  # torch takes seconds to import
    from ..device.resize import resize_frames

    height, width = picture.shape[:2]
    factor = side / max(height, width)
    rows, columns = (max(1, int(length * factor)) for length in (height, width))
    small = resize_frames(tensor_of(np.ascontiguousarray(picture))[None], (rows, columns))
    top, left = ((side - rows) // 2, (side - columns) // 2) if centred else (0, 0)
    square = np.full((side, side, 3), fill, np.uint8)
    square[top : top + rows, left : left + columns] = small[0].numpy()
    return square, factor, (left, top)
