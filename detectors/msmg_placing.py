"""Scores of windows -> scores of frames: which frame a window scores, and what lies between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Placement = Literal["centre", "worst", "cover"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def window_starts(n: int, length: int, stride: int) -> Ints:
    """First frames of the windows of a video: every stride-th one, and the last.

    A video that is shorter than a window has one, which begins before the video so that the middle
    of both is the same; frames over the ends are those at the ends.
    """
    if n < length:
        return np.array([-((length - n) // 2)], np.int64)
    starts = np.arange(0, n - length + 1, stride, dtype=np.int64)
    return starts if starts[-1] == n - length else np.append(starts, n - length)


@dataclass(frozen=True)
class Placing:
    """Where the windows of a video lie.

    Attributes:
        frames: n of the video.
        length: T, frames of a window.
        starts: (w,) ascending first frames.
        placement: "centre": a window scores its frame T // 2; "worst": the frame that has the
            largest error in it, and the highest score of a frame counts; "cover": all its frames,
            of which each has the highest of its windows. With the first two, scores of frames in
            between are interpolated, and the first and the last score are repeated.
    """

    frames: int
    length: int
    starts: Ints
    placement: Placement

    def spread(self, values: Floats, worst: Ints) -> Floats:
        """Compute the scores of all frames: (n,).

        Args:
            values:
                (w,) scores of the windows.
            worst:
                (w,) number of the frame with the largest error in each window, from 0.
        """
        every = np.arange(self.frames)
        if self.placement == "cover":
            found = np.full(self.frames, -np.inf)
            for start, value in zip(self.starts.tolist(), values.tolist(), strict=True):
                own = slice(max(0, start), start + self.length)
                np.maximum(found[own], value, out=found[own])
            return found
        at = self._scored(worst)
        if self.placement == "worst":
            highest = np.full(self.frames, -np.inf)
            np.maximum.at(highest, at, values)
            at = np.flatnonzero(highest > -np.inf)
            values = highest[at]
        return np.interp(every, at, values)

    def nearest(self, worst: Ints) -> Ints:
        """Choose a window for each frame, for its map: (n,) the one that scores the nearest."""
        at = self._scored(worst)
        order = np.argsort(at, kind="stable")
        middles = (at[order][1:] + at[order][:-1]) / 2
        found: Ints = order[np.searchsorted(middles, np.arange(self.frames), side="left")]
        return found

    def _scored(self, worst: Ints) -> Ints:
        offset = worst if self.placement == "worst" else np.int64(self.length // 2)
        found: Ints = np.clip(self.starts + offset, 0, self.frames - 1)
        return found
