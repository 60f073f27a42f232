"""Tiles: they cover the frame, and boxes come back to where they were."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from vadpipe.extractors.base import Runtime
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.detection.contract import Detections, detections_of
from vadpipe.extractors.detection.tiles import PictureDetector, Tile, cut_by_edges, fitted, tiles_of


@pytest.mark.parametrize(
    ("height", "width", "side", "count"),
    [(720, 1080, 416, 6), (416, 416, 416, 1), (417, 416, 416, 2), (100, 50, 416, 1)],
)
def test_tiles_cover_a_picture(height: int, width: int, side: int, count: int) -> None:
    seen = np.zeros((height, width), bool)
    tiles = tiles_of(height, width, side)
    for tile in tiles:
        assert tile.bottom - tile.top == min(side, height)
        assert tile.right - tile.left == min(side, width)
        seen[tile.top : tile.bottom, tile.left : tile.right] = True
    assert seen.all() and len(tiles) == count


def test_only_inner_edges_cut() -> None:
    boxes = np.array(
        [[0, 5, 9, 9], [5, 0, 9, 9], [5, 5, 20, 9], [5, 5, 9, 20], [2, 2, 18, 18]], np.float32
    )
    middle = Tile(10, 10, 30, 30)
    assert cut_by_edges(boxes, middle, 60, 60).tolist() == [True] * 4 + [False]
    corner = Tile(0, 0, 20, 20)
    assert cut_by_edges(boxes, corner, 60, 60).tolist() == [False, False, True, True, False]
    assert not cut_by_edges(boxes, corner, 20, 20).any()


class Bright(PictureDetector):
    """Finds the one bright rectangle of a picture, if it is wide enough to be seen."""

    side = 40  # type: ignore[assignment]

    def __init__(self, scale: float | None) -> None:
        super().__init__(scale)
        self.shapes: list[tuple[int, ...]] = []

    def load(self, runtime: Runtime) -> None:
        raise NotImplementedError

    def pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        self.shapes = [picture.shape[:2] for picture in pictures]
        found = []
        for picture in pictures:
            rows, columns = np.nonzero(picture[..., 0] > 128)
            box = (
                [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
                if len(rows)
                else []
            )
            wide = [b for b in box if b[2] - b[0] >= 10]
            found.append(detections_of(np.array(wide).reshape(-1, 4), np.ones(len(wide))))
        return found


def scene(row: int, column: int) -> Clip:
    frame = np.zeros((1, 30, 40, 3), np.uint8)
    frame[0, row : row + 5, column : column + 5] = 255
    return Clip(frame, np.arange(1), np.zeros(1), 0, 1)


def test_small_objects_are_found_in_tiles_at_their_place() -> None:
    assert len(Bright(None).detect(scene(3, 4), 0)) == 0
    tiled = Bright(3.0)  # 90 x 120: 3 x 3 tiles of 40
    found = tiled.detect(scene(3, 4), 0)
    assert tiled.shapes == [(30, 40)] + [(40, 40)] * 9
    assert len(found) >= 1 and np.abs(found.boxes - [4, 3, 9, 8]).max() <= 0.5


def test_an_object_across_a_tile_edge_is_not_cut() -> None:
    """Each tile sees a part of it only, so none of them reports it."""
    found = Bright(3.0).detect(scene(5, 12), 0)
    assert all(np.abs(box - [12, 5, 17, 10]).max() <= 0.5 for box in found.boxes)


def test_one_tile_is_not_looked_at_besides_the_whole() -> None:
    detector = Bright(1.0)
    detector.detect(scene(3, 4), 0)
    assert detector.shapes == [(30, 40)]


def test_a_picture_keeps_its_aspect_in_a_square() -> None:
    picture = np.full((20, 40, 3), 200, np.uint8)
    square, factor, place = fitted(picture, 80, 114, centred=False)
    assert factor == 2 and place == (0, 0)
    assert (square[:40] == 200).all() and (square[40:] == 114).all()
    square, _, place = fitted(picture, 80, 0, centred=True)
    assert place == (0, 20) and (square[20:60] == 200).all() and not square[:20].any()
