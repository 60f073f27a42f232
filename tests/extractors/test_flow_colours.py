"""Flow in colours: the wheel, its directions, and what is white."""

from __future__ import annotations

import colorsys

import numpy as np

from vadpipe.extractors.flow_colours import colour_wheel, flow_colours


def colour(u: float, v: float, full: float = 1.0) -> np.ndarray:
    return flow_colours(np.array([[[u, v]]]), full)[0, 0]


def test_the_wheel_is_that_of_middlebury() -> None:
    wheel = np.round(colour_wheel() * 255)
    assert wheel.shape == (55, 3)
    corners = {0: (255, 0, 0), 15: (255, 255, 0), 21: (0, 255, 0), 25: (0, 255, 255)}
    corners |= {36: (0, 0, 255), 49: (255, 0, 255)}
    for place, expected in corners.items():
        assert tuple(wheel[place]) == expected
    steps = np.abs(np.diff(np.vstack([wheel, wheel[:1]]), axis=0))
    assert ((steps > 0).sum(1) == 1).all(), "one channel at a time, all the way round"


def test_no_motion_is_white_and_half_the_length_half_as_strong() -> None:
    assert colour(0, 0).tolist() == [255, 255, 255]
    assert colour(1, 0).tolist() == [255, 0, 0], "to the right"
    assert colour(0.5, 0).tolist() == [255, 128, 128]
    assert np.array_equal(colour(3, 4, 10), colour(0.3, 0.4)), "only the ratio counts"
    assert colour(7, 0).tolist() == [191, 0, 0], "beyond the full length it is darker"


def test_a_rotation_of_the_flow_turns_the_hue_one_way() -> None:
    angles = np.arange(1, 360, 5)
    field = np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], -1)[None]
    drawn = flow_colours(field, 1.0)[0] / 255
    hues = np.array([colorsys.rgb_to_hsv(*rgb)[0] for rgb in drawn])
    assert (np.diff(hues) > 0).all() and np.ptp(hues) > 0.9
    down, left, up = (colour(u, v) for u, v in ((0, 1), (-1, 0), (0, -1)))
    assert down[2] == 0 and down[0] == 255 and down[1] > 200, "yellow"
    assert left[0] == 0 and left[2] == 255, "blue-green"
    assert up[1] == 0 and up[2] == 255, "violet"


def test_shapes_are_kept() -> None:
    drawn = flow_colours(np.zeros((2, 3, 4, 2), np.float16), 2.0)
    assert drawn.shape == (2, 3, 4, 3) and drawn.dtype == np.uint8
