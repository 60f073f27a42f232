"""What is measured of objects: motion in their boxes, and how long they stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.walkers import walkers
from vadpipe.detectors.base import Bag, DetectorError, Track
from vadpipe.detectors.object_maps import Objects, read_objects
from vadpipe.detectors.object_measures import Measures, measure, stays


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


def objects_of(boxes: dict[int, list[tuple[float, float, float, float]]]) -> Objects:
    every = np.arange(40, dtype=np.int64)
    row = np.array([t for t, found in boxes.items() for _ in found], np.int64)
    corners = np.array([box for found in boxes.values() for box in found], np.float64)
    return Objects(every, every + 1, (100, 100), row, corners.reshape(-1, 4))


def test_who_stands_stays_and_who_walks_does_not() -> None:
    still = (10.0, 10.0, 20.0, 30.0)
    boxes = {t: [still, (2.0 * t, 10.0, 2.0 * t + 10, 30.0)] for t in range(20)}
    seconds = stays(objects_of(boxes), 10.0).reshape(20, 2)
    passing = slice(3, 8)  # the walker crosses the one who stands: they may be exchanged
    assert seconds[-1, 0] == pytest.approx(1.9)
    assert seconds[8:, 1].max() < 0.4 and seconds[:3, 1].max() < 0.4
    assert seconds[passing].max() < 0.9


def test_a_short_gap_is_no_end_and_a_long_one_is() -> None:
    still = [(10.0, 10.0, 20.0, 30.0)]
    short = stays(objects_of({t: still for t in range(40) if not 10 <= t < 19}), 10.0)
    assert short[-1] == pytest.approx(3.9)
    long = stays(objects_of({t: still for t in range(40) if not 10 <= t < 22}), 10.0)
    assert long[-1] == pytest.approx(1.7)
    assert len(stays(objects_of({}), 10.0)) == 0
