"""Maps of object scores against slow oracles, and what happens at the edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from tests.walkers import walkers
from vadpipe.detectors import object_maps
from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.object_maps import (
    ObjectMapConfig,
    Objects,
    gaussian,
    mean_filtered,
    painted,
    read_objects,
    score_frames,
)

RNG = np.random.default_rng(0)


def some(n: int = 40, rows: int = 6, size: tuple[int, int] = (50, 70)) -> Objects:
    low = RNG.uniform(-5, 45, (n, 2))
    boxes = np.concatenate([low, low + RNG.uniform(2, 30, (n, 2))], axis=1)
    start = np.arange(rows, dtype=np.int64) * 2
    return Objects(start, start + 1, size, np.sort(RNG.integers(0, rows, n)), boxes)


@pytest.mark.parametrize("block", [1, 7, 20, 100])
def test_painting_equals_a_slow_oracle(block: int) -> None:
    objects, scores = some(), RNG.uniform(0, 3, 40)
    shape = (6, -(-50 // block), -(-70 // block))
    expected = np.zeros(shape)
    for row, (x0, y0, x1, y1), score in zip(objects.row, objects.boxes, scores, strict=True):
        for y in range(round(y0 / block), round((y1 - 1) / block) + 1):
            for x in range(round(x0 / block), round((x1 - 1) / block) + 1):
                at = row, min(max(y, 0), shape[1] - 1), min(max(x, 0), shape[2] - 1)
                expected[at] = max(expected[at], score)
    assert np.allclose(painted(objects, scores, block), expected, rtol=1e-6)


def test_one_pixel_blocks_are_the_pixels_of_the_box() -> None:
    objects = replace(some(1, 1), row=np.array([0]), boxes=np.array([[3.0, 4.0, 6.0, 9.0]]))
    maps = painted(objects, np.array([2.0]), 1)
    assert maps[0, 4:9, 3:6].min() == 2 and maps.sum() == 2 * 15


def test_the_mean_filter_pads_with_nothing() -> None:
    maps = RNG.uniform(0, 1, (4, 5, 6)).astype(np.float32)
    padded = np.pad(maps, 1)
    expected = [
        [[padded[t : t + 3, y : y + 3, x : x + 3].mean() for x in range(6)] for y in range(5)]
        for t in range(4)
    ]
    assert np.allclose(mean_filtered(maps, 3), expected, rtol=1e-5)
    assert mean_filtered(maps, 1) is maps
    spike = np.zeros((9, 9, 9), np.float32)
    spike[1, 1, 1] = 1e6
    assert (mean_filtered(spike, 3)[4:] == 0).all()


def test_the_gaussian_repeats_the_ends_and_counts_frames() -> None:
    values = RNG.uniform(0, 1, 30)
    start = np.arange(30, dtype=np.int64)
    weights = np.exp(-0.5 * (np.arange(-8, 9) / 2) ** 2)
    expected = np.convolve(np.pad(values, 8, mode="edge"), weights / weights.sum(), "valid")
    assert np.allclose(gaussian(values, start, 2.0), expected)
    assert np.array_equal(gaussian(values, start * 3, 6.0), gaussian(values, start, 2.0))
    assert gaussian(values, start, 0.0) is values
    assert gaussian(values[:1], start[:1], 2.0) is not None


def test_without_filters_a_frame_has_the_score_of_its_worst_object() -> None:
    objects, scores = some(), RNG.uniform(0, 3, 40)
    frames, maps = score_frames(objects, scores, ObjectMapConfig(smooth=0))
    assert np.allclose(frames, objects.maxima(scores), rtol=1e-6)
    assert maps.shape == (6, 3, 4)
    filtered, _ = score_frames(objects, scores, ObjectMapConfig(smooth=0, mean_filter=5))
    assert (filtered < frames).all()


def test_maps_that_are_too_large_and_even_filters_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_maps, "MOST_BYTES", 1000)
    with pytest.raises(DetectorError, match="set block to more than 1"):
        painted(some(), np.zeros(40), 1)
    with pytest.raises(ValidationError, match="mean_filter is an odd number"):
        ObjectMapConfig(mean_filter=4)


def test_boxes_have_to_lie_in_listed_frames() -> None:
    bag = walkers(0)
    objects = read_objects(bag)
    assert objects.size == (120, 200) and len(objects) == 300
    assert np.array_equal(objects.frame_start[objects.row], bag.tracks["object/boxes"].frame_start)
    boxes = replace(bag.tracks["object/boxes"], frame_start=objects.row + 1)
    with pytest.raises(DetectorError, match="boxes in frames that its features do not list"):
        read_objects(replace(bag, tracks={**bag.tracks, "object/boxes": boxes}))
    boxes = replace(boxes, array=np.full((300, 4), np.nan), frame_start=objects.row)
    with pytest.raises(DetectorError, match="boxes that are not finite"):
        read_objects(replace(bag, tracks={**bag.tracks, "object/boxes": boxes}))
