"""Bags in memory with one row a frame: pixels, flow, features, and their perturbed twins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bags import Bags
from vadpipe.detectors.base import Bag, Track

SIDE = 16


def frame_bag(name: str, arrays: Mapping[str, NDArray[Any]]) -> Bag:
    """A video; row i is frame i."""
    tracks = {}
    for role, values in arrays.items():
        start = np.arange(len(values), dtype=np.int64)
        tracks[role] = Track(values, start, start + 1)
    n = max(len(values) for values in arrays.values())
    return Bag(name, 0, n, 25.0, tracks)


def moving_square(
    n: int, seed: int = 0, *, speed: int = 1, bright: int = 250
) -> dict[str, NDArray[Any]]:
    """A square that moves to the right over a grey ground, its flow, and features of both.

    The twin has a bright block at a place of its own in each frame.
    """
    random = np.random.default_rng(seed)
    frames = np.full((n, SIDE, SIDE, 3), 90, np.uint8)
    flow = np.zeros((n, SIDE, SIDE, 2), np.float16)
    top, left = random.integers(SIDE - 4, size=2)
    for i in range(n):
        columns = (left + speed * i + np.arange(4)) % SIDE
        frames[i, top : top + 4, columns] = 160
        flow[i, top : top + 4, columns, 0] = speed
    odd = frames.copy()
    for i in range(n):
        y, x = random.integers(SIDE - 5, size=2)
        odd[i, y : y + 5, x : x + 5] = bright
    return {
        "pixels": frames,
        "perturbed_pixels": odd,
        "flow": flow,
        "frame": frames.reshape(n, -1)[:, ::48].astype(np.float16) / 255,
        "perturbed_frame": odd.reshape(n, -1)[:, ::48].astype(np.float16) / 255,
    }


def squares(videos: int = 3, n: int = 20) -> Bags:
    """Videos of moving squares."""
    return Bags([frame_bag(f"v{i}", moving_square(n, i)) for i in range(videos)])
