"""Optical flow in colours: the wheel of Middlebury (Baker et al., IJCV 2011).

The direction is the hue, the length is the saturation: no motion is white. Right is red, down is
yellow, left is blue-green, up is violet. What is longer than the full length is darker.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

# Steps from each colour to the next: red, yellow, green, cyan, blue, magenta.
STEPS = (15, 6, 4, 11, 13, 6)
BEYOND = 0.75  # brightness of flow beyond the full length
FULL_QUANTILE = 0.99  # of the lengths of fields that are drawn together
LEAST_FULL = 1e-3  # pixels, where nothing moves


@cache
def colour_wheel() -> NDArray[np.float64]:
    """(55, 3) RGB in [0, 1]: one channel rises or falls at a time."""
    parts = []
    for i, steps in enumerate(STEPS):
        part = np.zeros((steps, 3))
        ramp = np.arange(steps) / steps
        whole, changing = ((i + 1) // 2 % 3, (1 - i) % 3)
        part[:, whole] = 1.0
        part[:, changing] = ramp if i % 2 == 0 else 1.0 - ramp
        parts.append(part)
    return np.concatenate(parts)


def flow_colours(flow: NDArray[np.floating], full: float) -> NDArray[np.uint8]:
    """Draw flow.

    Args:
        flow:
            (..., H, W, 2), to the right and down.
        full:
            Length that has the full colour, above 0.

    Returns:
        (..., H, W, 3) uint8 RGB.
    """
    wheel = colour_wheel()
    u, v = (flow[..., i].astype(np.float64) / full for i in (0, 1))
    length = np.hypot(u, v)
    place = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.minimum(np.floor(place).astype(np.int64), len(wheel) - 1)
    share = (place - low)[..., None]
    colour = (1 - share) * wheel[low] + share * wheel[(low + 1) % len(wheel)]
    inside = (length <= 1)[..., None]
    drawn = np.where(inside, 1 - length[..., None] * (1 - colour), colour * BEYOND)
    return np.asarray(np.rint(drawn * 255), np.uint8)


def full_length(flow: NDArray[np.floating]) -> float:
    """The length that has the full colour where fields (..., 2) are drawn together."""
    lengths = np.hypot(*(flow[..., i].astype(np.float64) for i in (0, 1)))
    return max(float(np.quantile(lengths, FULL_QUANTILE)), LEAST_FULL)
