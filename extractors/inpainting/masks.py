"""Masks of LaMa (Suvorov et al., WACV 2022): random strokes and boxes, and moved object shapes.

A mask is (H, W) bool, True where a picture is filled. What is drawn depends on the name of the
draws only. Lengths in pixels are those of a picture of 256 x 256; others scale with the shorter
side, so that the share of the picture stays the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..draws import Draws
from ..errors import ExtractorError

Mask = NDArray[np.bool_]
MaskPreset = Literal["medium_256", "class_default"]

TAMPER_AREA = 0.5  # largest share of a picture that is masked (LaMa, max_tamper_area)
SIDE = 256  # of the pictures that lengths are for
SMALLEST = 16  # side of a picture that a stroke does not fill by chance
MOST_TRIES = 1000


@dataclass(frozen=True)
class Strokes:
    """Chains of thick lines.

    Attributes:
        times: (fewest, most) chains.
        width: a line is 5 to 4 + width pixels thick.
        length: a line is 10 to 9 + length pixels long.
        angles: a line has one of so many directions, 0.01, 1.01, ... radians.
    """

    times: tuple[int, int]
    width: int
    length: int
    angles: int = 4

    def draw(self, draws: Draws, height: int, width: int) -> Mask:
        """Draw all chains; each second one turns the other way, and has 1 to 5 lines."""
        scale = min(height, width) / SIDE
        mask = np.zeros((height, width), np.uint8)
        for chain in range(draws.between(*self.times)):
            x, y = draws.below(width), draws.below(height)
            for _ in range(draws.between(1, 5)):
                angle = 0.01 + draws.below(self.angles)
                angle = 2 * np.pi - angle if chain % 2 == 0 else angle
                length = (10 + draws.below(self.length)) * scale
                brush = max(1, round((5 + draws.below(self.width)) * scale))
                end_x = min(max(int(x + length * np.sin(angle)), 0), width)
                end_y = min(max(int(y + length * np.cos(angle)), 0), height)
                cv2.line(mask, (x, y), (end_x, end_y), 1, brush)
                x, y = end_x, end_y
        return mask.astype(bool)


@dataclass(frozen=True)
class Boxes:
    """Filled rectangles.

    Attributes:
        times: (fewest, most) rectangles.
        sides: (shortest, longest) side.
        margin: distance to the border of the picture.
    """

    times: tuple[int, int]
    sides: tuple[int, int]
    margin: int

    def draw(self, draws: Draws, height: int, width: int) -> Mask:
        """Draw all rectangles."""
        scale = min(height, width) / SIDE
        margin = round(self.margin * scale)
        most = min(height, width) - 2 * margin
        mask = np.zeros((height, width), bool)
        for _ in range(draws.between(*self.times)):
            drawn = (draws.between(*self.sides) for _ in range(2))
            rows, columns = (min(most, max(1, round(side * scale))) for side in drawn)
            left = draws.between(margin, width - margin - columns)
            top = draws.between(margin, height - margin - rows)
            mask[top : top + rows, left : left + columns] = True
        return mask


# Kinds of masks with their weights. "medium_256" is LaMa's configs/data_gen/random_medium_256.yaml,
# "class_default" what its generators draw without settings; both as the code counts: 4 to 6
# chains where the file says 4 to 5, and 0 to 11 where the class says 0 to 10.
PRESETS: dict[MaskPreset, tuple[tuple[Strokes | Boxes, float], ...]] = {
    "medium_256": ((Strokes((4, 6), 50, 100), 1.0), (Boxes((1, 5), (10, 50), 0), 0.3)),
    "class_default": ((Strokes((0, 11), 20, 60), 1.0), (Boxes((0, 3), (30, 100), 10), 1.0)),
}


def random_mask(draws: Draws, height: int, width: int, preset: MaskPreset = "medium_256") -> Mask:
    """Draw strokes or boxes, again until they cover something and at most half of the picture.

    Raises:
        ExtractorError: the picture is too small for such a mask.
    """
    kinds = PRESETS[preset]
    total = sum(weight for _, weight in kinds)
    for _ in range(MOST_TRIES if min(height, width) >= SMALLEST else 0):
        place = draws.unit() * total
        kind = kinds[0][0] if place < kinds[0][1] else kinds[1][0]
        mask = kind.draw(draws, height, width)
        if 0 < mask.mean() <= TAMPER_AREA:
            return mask
    raise ExtractorError(
        f"no mask {preset} fits into a picture of {height} x {width}: take a size of "
        f"{SMALLEST} x {SMALLEST} or more"
    )


# ------------------------------------------------------------------------------- object shapes


@dataclass(frozen=True)
class ShapeLimits:
    """How far an object's shape may be changed and moved; the values are LaMa's.

    Attributes:
        largest_object: objects from this share of the picture on are not taken.
        least_mask: smallest share of the picture that a mask covers.
        overlap: largest share of an object that the mask covers, and of the mask that one object
            covers.
        hidden: largest share of the shape that lies outside of the picture.
        scale: the shape grows or shrinks by up to this factor.
        shift: it moves up or down by up to this share of the height.
        tries: for each object.
    """

    largest_object: float = 0.3
    least_mask: float = 0.02
    overlap: float = 0.5
    hidden: float = 0.2
    scale: float = 0.25
    shift: float = 0.1
    tries: int = 4


LIMITS = ShapeLimits()


def moved_shape(objects: NDArray[np.bool_], draws: Draws, limits: ShapeLimits) -> Mask | None:
    """Move the shape of one of the objects to another place.

    The objects are tried in a random order. A shape is scaled, maybe mirrored, moved up or down,
    and then to the first of all columns, in a random order, where it covers no object too much.

    Args:
        objects:
            (n, H, W) bool, the objects of a picture; all of them are foreground.
        draws:
            The stream of random numbers.
        limits:
            How far a shape may be changed.

    Returns:
        (H, W) bool; None where no object can be moved within the limits.
    """
    areas = objects.mean(axis=(1, 2))
    fitting = np.flatnonzero((areas > 0) & (areas < limits.largest_object)).tolist()
    foreground = objects[areas > 0]
    for number in draws.shuffled(fitting):
        for _ in range(limits.tries):
            mask = _moved(objects[number], foreground, draws, limits)
            if mask is not None and limits.least_mask < mask.mean() <= TAMPER_AREA:
                return mask
    return None


def _moved(shape: Mask, foreground: Mask, draws: Draws, limits: ShapeLimits) -> Mask | None:
    """One try with one object."""
    height, width = shape.shape
    (up, down), (left, right) = (_limits(np.asarray(shape.any(axis))) for axis in (1, 0))
    factor = 1 + limits.scale * (2 * draws.unit() - 1)
    rooms = [2 * min(up, height - down) / height, 2 * min(left, width - right) / width]
    piece = _scaled(shape[up:down, left:right], min(factor, *(1 + room for room in rooms)))
    piece = piece[:, ::-1] if draws.below(2) else piece
    area = int(piece.sum())
    drop = round(height * limits.shift * (2 * draws.unit() - 1))
    if not area:
        return None  # a thin shape that nearest neighbours lose

    top = round((up + down - len(piece)) / 2)
    by_row = piece.sum(1) / area
    hidden_up, hidden_down = (_hideable(rows, limits.hidden) for rows in (by_row, by_row[::-1]))
    top = min(max(top + drop, -hidden_up), height - len(piece) + hidden_down)
    piece, top = piece[max(0, -top) : height - top], max(0, top)

    by_column = piece.sum(0) / area
    room = limits.hidden - (1 - float(by_column.sum()))
    hidden_left, hidden_right = (_hideable(c, room) for c in (by_column, by_column[::-1]))
    places = range(-hidden_left, width - piece.shape[1] + hidden_right + 1)
    for column in draws.shuffled(places):
        mask = np.zeros((height, width), bool)
        inside = piece[:, max(0, -column) : width - column]
        first = max(0, column)
        mask[top : top + len(piece), first : first + inside.shape[1]] = inside
        if mask.any() and _leaves_objects(mask, foreground, limits.overlap):
            return mask
    return None


def _limits(filled: NDArray[np.bool_]) -> tuple[int, int]:
    """The first True, and one past the last."""
    places = np.flatnonzero(filled)
    return int(places[0]), int(places[-1]) + 1


def _scaled(piece: Mask, factor: float) -> Mask:
    """Scale by nearest neighbours."""
    rows, columns = (max(1, round(side * factor)) for side in piece.shape)
    return resized_mask(piece, rows, columns)


def resized_mask(mask: Mask, height: int, width: int) -> Mask:
    """Resize the last two axes by nearest neighbours."""
    rows = (np.arange(height) + 0.5) * mask.shape[-2] // height
    columns = (np.arange(width) + 0.5) * mask.shape[-1] // width
    found: Mask = mask[..., rows.astype(np.int64)[:, None], columns.astype(np.int64)]
    return found


def _hideable(shares: NDArray[np.float64], most: float) -> int:
    """How many lines from the first on may be hidden: together they have less than `most`."""
    return int(np.searchsorted(np.cumsum(shares), most)) if most > 0 else 0


def _leaves_objects(mask: Mask, foreground: Mask, overlap: float) -> bool:
    common = (foreground & mask).sum(axis=(1, 2))
    covered = common / foreground.sum(axis=(1, 2))
    return bool((covered <= overlap).all() and (common / mask.sum() <= overlap).all())
