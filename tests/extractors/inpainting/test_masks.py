"""Masks: their areas, shapes and places, and that their name alone decides them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vadpipe.extractors.draws import Draws
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.inpainting.masks import (
    LIMITS,
    PRESETS,
    Boxes,
    MaskPreset,
    Strokes,
    moved_shape,
    random_mask,
    resized_mask,
)

SIZE = (64, 96)
SMALL = replace(LIMITS, least_mask=0.0)


def scene(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Objects by (top, left, height, width); the upper left quarter of each is cut out."""
    objects = np.zeros((len(boxes), *SIZE), bool)
    for mask, (top, left, height, width) in zip(objects, boxes, strict=True):
        mask[top : top + height, left : left + width] = True
        mask[top : top + height // 2, left : left + width // 2] = False
    return objects


@pytest.mark.parametrize("preset", PRESETS)
def test_random_masks_cover_something_and_at_most_half(preset: MaskPreset) -> None:
    areas = []
    for i in range(200):
        mask = random_mask(Draws(i), *SIZE, preset)
        assert mask.shape == SIZE and mask.dtype == bool
        areas.append(mask.mean())
    assert min(areas) > 0 and max(areas) <= 0.5
    assert len(set(areas)) > 100


@pytest.mark.parametrize("preset", PRESETS)
def test_the_name_of_the_draws_decides(preset: MaskPreset) -> None:
    first, again, other = (random_mask(Draws("m", i), *SIZE, preset) for i in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_share_of_a_mask_does_not_depend_on_the_size_of_the_picture() -> None:
    for kind in (Strokes((4, 6), 50, 100), Boxes((1, 5), (10, 50), 0)):
        small, large = (
            np.mean([kind.draw(Draws(i), side, side).mean() for i in range(100)])
            for side in (64, 256)
        )
        assert abs(small - large) < 0.1 * large


def test_boxes_keep_their_sides_and_their_margin() -> None:
    for i in range(50):
        mask = Boxes((1, 1), (30, 100), 10).draw(Draws(i), 256, 300)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns), "one filled rectangle"
        assert 30 <= len(rows) <= 100 and 30 <= len(columns) <= 100
        assert rows[0] >= 10 and rows[-1] < 246 and columns[0] >= 10 and columns[-1] < 290


def test_a_stroke_is_as_thick_as_drawn() -> None:
    mask = Strokes((1, 1), 1, 100).draw(Draws("thin"), 256, 256)  # 5 pixels, up to 5 lines
    assert 0 < mask.sum() <= 5 * (110 + 5) * 8


def test_a_picture_that_is_too_small_is_refused() -> None:
    with pytest.raises(ExtractorError, match="take a size of 16 x 16 or more"):
        random_mask(Draws(), 8, 300)


# ------------------------------------------------------------------------------- object shapes


def test_a_shape_is_moved_within_the_limits() -> None:
    objects = scene((20, 10, 24, 16), (30, 60, 20, 12))
    masks = [moved_shape(objects, Draws(i), SMALL) for i in range(40)]
    kept = [mask for mask in masks if mask is not None]
    assert len(kept) == 40 and len({mask.tobytes() for mask in kept}) > 30
    for mask in kept:
        common = (objects & mask).sum(axis=(1, 2))
        assert (common <= 0.5 * objects.sum(axis=(1, 2))).all(), "no object is covered"
        assert (common <= 0.5 * mask.sum()).all(), "and most of the mask is background"
        largest = max(objects.sum(axis=(1, 2))) * 1.25**2 * 1.1  # nearest neighbours round
        smallest = min(objects.sum(axis=(1, 2))) * 0.75**2 * 0.8 * 0.9
        assert smallest <= mask.sum() <= largest


def test_a_shape_keeps_its_form() -> None:
    """Without scaling, a mask is the object or its mirror image, pixel by pixel."""
    objects = scene((20, 40, 24, 16))
    own = objects[0, 20:44, 40:56]
    seen = set()
    for i in range(30):
        mask = moved_shape(objects, Draws(i), replace(SMALL, scale=0.0, hidden=0.0))
        assert mask is not None
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        piece = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        mirrored = np.array_equal(piece, own[:, ::-1])
        assert mirrored or np.array_equal(piece, own)
        assert abs(rows[0] - 20) <= 0.1 * SIZE[0] + 1, "up or down by a tenth of the height"
        seen.add(mirrored)
    assert seen == {True, False}


def test_at_most_a_fifth_of_a_shape_leaves_the_picture() -> None:
    objects = scene((0, 0, 20, 20), (44, 76, 20, 20))
    limits = replace(SMALL, scale=0.0)
    areas = [
        m.sum() for i in range(60) if (m := moved_shape(objects, Draws(i), limits)) is not None
    ]
    assert min(areas) >= 0.8 * objects[0].sum() and min(areas) < objects[0].sum()


def test_objects_that_cannot_be_moved_have_no_mask() -> None:
    assert moved_shape(np.zeros((0, *SIZE), bool), Draws(), SMALL) is None
    assert moved_shape(np.zeros((2, *SIZE), bool), Draws(), SMALL) is None, "nothing visible"
    assert moved_shape(scene((0, 0, 64, 60)), Draws(), SMALL) is None, "too large an object"
    assert moved_shape(scene((20, 10, 8, 4)), Draws(), LIMITS) is None, "too small a mask"
    filled = np.ones((1, *SIZE), bool)
    both = np.concatenate([scene((20, 10, 24, 16)), filled])
    assert moved_shape(both, Draws(), SMALL) is None, "every place is foreground"


def test_the_name_of_the_draws_decides_where_a_shape_goes() -> None:
    objects = scene((20, 10, 24, 16), (30, 60, 20, 12))
    first, again, other = (moved_shape(objects, Draws(i), SMALL) for i in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_masks_are_resized_by_nearest_neighbours() -> None:
    mask = np.array([[[True, False], [False, True]]])
    assert np.array_equal(resized_mask(mask, 4, 4)[0], np.kron(mask[0], np.ones((2, 2), bool)))
    assert np.array_equal(resized_mask(resized_mask(mask, 6, 8), 2, 2), mask)
