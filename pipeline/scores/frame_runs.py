"""Runs of frames above a level, and what joins, drops and widens them until they are events."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FrameTimes:
    """The times of events, in frames of one video.

    Attributes:
        gap: runs with no more frames than this between them become one.
        shortest: shorter runs are dropped, after joining.
        pad: frames that are added on both sides at the end.
    """

    gap: int
    shortest: int
    pad: int

    @classmethod
    def of(
        cls, merge_seconds: float, min_seconds: float, pad_seconds: float, fps: float
    ) -> FrameTimes:
        """The times in frames at `fps` frames per second."""
        # A millionth of a frame of slack: 2.2 s at 25 fps are 55 frames, but 2.2 * 25 > 55 in
        # binary.
        return cls(
            gap=math.floor(merge_seconds * fps + 1e-6),
            shortest=math.ceil(min_seconds * fps - 1e-6),
            pad=round(pad_seconds * fps),
        )


def runs_above(frames: NDArray[np.float64], low: float) -> NDArray[np.int64]:
    """The runs of frames above a level: (r, 2), first frame and one past the last, ascending."""
    return np.flatnonzero(np.diff(frames > low, prepend=False, append=False)).reshape(-1, 2)


def joined(runs: NDArray[np.int64], times: FrameTimes, n_frames: int) -> NDArray[np.int64]:
    """Make events of runs: join those that are close, drop the short ones, widen the rest.

    Args:
        runs:
            (r, 2) ascending and disjoint.
        times:
            How.
        n_frames:
            Of the video; nothing is widened beyond.

    Returns:
        (e, 2) ascending and disjoint.
    """
    runs = _merge(runs, times.gap)
    runs = runs[runs[:, 1] - runs[:, 0] >= times.shortest]
    return _merge(np.clip(runs + np.array([-times.pad, times.pad]), 0, n_frames), 0)


def _merge(runs: NDArray[np.int64], gap: int) -> NDArray[np.int64]:
    """Join neighbouring (r, 2) runs with at most `gap` frames between them."""
    if len(runs) < 2:
        return runs
    apart = runs[1:, 0] - runs[:-1, 1] > gap
    starts = runs[np.concatenate([[True], apart]), 0]
    stops = runs[np.concatenate([apart, [True]]), 1]
    return np.stack([starts, stops], axis=1)
