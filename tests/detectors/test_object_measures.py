"""What is measured of objects: motion in their boxes, and which rows are asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.walkers import walkers
from vadpipe.detectors.base import Bag, DetectorError, Track
from vadpipe.detectors.object_maps import read_objects
from vadpipe.detectors.object_measures import Measures, measure


def with_flow(flow: np.ndarray, step: int = 1) -> Bag:
    bag = walkers(0)
    start = np.arange(len(flow), dtype=np.int64) * step
    return replace(bag, tracks={**bag.tracks, "flow": Track(flow, start, start + 1)})


def measured(bag: Bag, *attributes: str) -> Measures:
    return measure(bag, read_objects(bag), attributes, "flow", np.arange(60))


def test_speed_is_the_median_in_the_box_in_pixels_of_the_footage() -> None:
    """Flow of half the height and a quarter of the width; outside of the box it is wild."""
    flow = np.full((60, 60, 50, 2), 9, np.float16)
    bag = with_flow(flow)
    x0, y0, x1, y1 = bag.tracks["object/boxes"].rows(0, 1)[0]
    top, bottom = int(y0 // 2), int(np.ceil(y1 / 2))
    left, right = int(x0 // 4), int(np.ceil(x1 / 4))
    flow[0, top:bottom, left:right] = (0.75, -2.0)  # times 4 and 2: 3 to the right, 4 up
    flow[0, top, left] = (50, 50)  # one wild pixel
    found = measured(bag, "speed")
    assert found.speed is not None and found.heading is not None
    assert found.speed[0] == pytest.approx(5)
    assert found.heading[0] == pytest.approx([0.6, -0.8])


def test_what_objects_measured_with_flow() -> None:
    bag = walkers(0)
    rows = np.tile(np.array([5.0, 9.0, 3.0, -3.0], np.float32), (300, 1))
    boxes = bag.tracks["object/boxes"]
    bag = replace(bag, tracks={**bag.tracks, "object/flow": replace(boxes, array=rows)})
    found = measure(bag, read_objects(bag), ("speed",), "objects", np.arange(60))
    assert found.speed is not None and found.heading is not None
    assert (found.speed == 5).all()
    assert np.allclose(found.heading, np.array([1, -1]) / np.sqrt(2))
    bag = replace(bag, tracks={**bag.tracks, "object/flow": replace(boxes, array=rows[:, :3])})
    with pytest.raises(DetectorError, match="'object/flow' are not 4 numbers"):
        measure(bag, read_objects(bag), ("speed",), "objects", np.arange(60))


def test_flow_that_is_missing_or_not_finite_is_refused() -> None:
    with pytest.raises(DetectorError, match="objects but no flow in frame 1: extract flow"):
        measured(with_flow(np.zeros((30, 60, 50, 2), np.float16), step=2), "speed")
    with pytest.raises(DetectorError, match="flow has values that are not finite"):
        measured(with_flow(np.full((60, 60, 50, 2), np.inf, np.float16)), "direction")
    with pytest.raises(DetectorError, match="has no 'flow' features"):
        measured(walkers(0), "speed")


def test_some_rows_only() -> None:
    bag = walkers(0)
    part = measure(bag, read_objects(bag), ("stay", "class"), "flow", np.array([3, 7]), 5)
    assert part.row.tolist() == [3] * 5 + [7] * 5 and set(part.owner) == {5}
    whole = measured(bag, "stay", "class")
    assert whole.stay is not None and part.stay is not None
    assert np.array_equal(part.stay, whole.stay[np.isin(whole.row, [3, 7])])
    assert part.speed is None
