"""Rows of scores expanded to frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...data_manifests.errors import VadpipeError
from .exact_mean import covering_mean, covering_sum


class MetricsError(VadpipeError, ValueError):
    """Scores or labels that cannot be measured; the message names the video."""


def expand_to_frames(
    frame_start: ArrayLike, frame_stop: ArrayLike, score: ArrayLike, start: int, stop: int
) -> NDArray[np.float64]:
    """Give every frame of [start, stop) the mean score of the windows that cover it.

    Windows may overlap, leave gaps and reach over the borders, in any order. A frame that no window
    covers takes the score of the nearest covered frame (of the earlier one where two are equally
    near). The mean is rounded once: frames under the same scores tie, in any order and whatever
    lies elsewhere in the video. A frame under exactly one window gets its score bit by bit.

    Args:
        frame_start:
            (n,) first frame of each window.
        frame_stop:
            (n,) one past the last frame of each window.
        score:
            (n,) score of each window.
        start:
            First frame wanted.
        stop:
            One past the last frame wanted.

    Returns:
        (stop - start,) float64.

    Raises:
        MetricsError: lengths differ, a window is empty, a score is not finite, or no window touches
            the range.
    """
    mean, count, lengths = _places(frame_start, frame_stop, score, start, stop)
    bare = np.flatnonzero(np.repeat(count == 0, lengths))
    result = np.repeat(mean, lengths)
    if len(bare):
        covered = np.flatnonzero(np.repeat(count > 0, lengths))
        place = np.searchsorted(covered, bare)
        before = covered[np.maximum(place - 1, 0)]
        after = covered[np.minimum(place, len(covered) - 1)]
        earlier = np.abs(bare - before) <= np.abs(after - bare)
        result[bare] = result[np.where(earlier, before, after)]
    return result


def expand_to_runs(
    frame_start: ArrayLike, frame_stop: ArrayLike, score: ArrayLike
) -> tuple[int, NDArray[np.int64], NDArray[np.float64]]:
    """The frames of all windows as `expand_to_frames` fills them, as runs of equal frames.

    Memory grows with the number of windows, not with that of frames.

    Args:
        frame_start:
            (n,) first frame of each window.
        frame_stop:
            (n,) one past the last frame of each window.
        score:
            (n,) score of each window.

    Returns:
        The first frame, and for each run its length in frames and its score: (k,) each. Neighbours
        differ.

    Raises:
        MetricsError: as `expand_to_frames`, or there is no window.
    """
    if not np.size(frame_start):
        raise MetricsError("there is no window")
    first, stop = int(np.min(frame_start)), int(np.max(frame_stop))
    mean, count, lengths = _places(frame_start, frame_stop, score, first, stop)
    # A gap lies between two covered places: its earlier half has the score of the one before.
    gaps = np.flatnonzero(count == 0)
    earlier = np.zeros(len(lengths), np.int64)
    earlier[gaps] = (lengths[gaps] + 1) // 2
    values = np.repeat(mean, 2)
    values[2 * gaps], values[2 * gaps + 1] = mean[gaps - 1], mean[gaps + 1]
    halves = np.stack([np.where(count == 0, earlier, lengths), lengths - earlier], axis=1)
    halves[count > 0, 1] = 0
    sizes = halves.ravel()
    values, sizes = values[sizes > 0], sizes[sizes > 0]
    starts = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
    return first, np.add.reduceat(sizes, starts), values[starts]


def _places(
    frame_start: ArrayLike, frame_stop: ArrayLike, score: ArrayLike, start: int, stop: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Stretches of the frames [start, stop) under the same windows: mean score, number of windows
    and length of each. The mean of a stretch without windows says nothing."""
    first = np.asarray(frame_start, dtype=np.int64)
    last = np.asarray(frame_stop, dtype=np.int64)
    values = np.asarray(score, dtype=np.float64)
    if not first.shape == last.shape == values.shape or values.ndim != 1:
        raise MetricsError(
            f"frame_start {first.shape}, frame_stop {last.shape} and score {values.shape} have to "
            "be vectors of one length"
        )
    if not np.isfinite(values).all():
        raise MetricsError("scores are not finite")
    if (first >= last).any():
        raise MetricsError("a window is empty: frame_stop has to be after frame_start")
    if start >= stop:
        raise MetricsError(f"the frame range [{start}, {stop}) is empty")

    touching = (last > start) & (first < stop)
    if not touching.any():
        raise MetricsError(f"no score covers a frame of [{start}, {stop})")
    values = values[touching]
    begin = np.maximum(first[touching], start) - start  # (m,)
    end = np.minimum(last[touching], stop) - start  # (m,)
    # Between two borders all frames have the same windows: a place is one such stretch.
    borders = np.unique(np.concatenate([begin, end, [0, stop - start]]))
    lengths = np.diff(borders)  # (places,)
    begin, end = np.searchsorted(borders, begin), np.searchsorted(borders, end)

    count = covering_sum(begin, end, np.ones(len(values), dtype=np.int64), len(lengths))
    if count.max() > 1:
        mean = covering_mean(begin, end, values, count)
    else:  # the sum of the numbers of all windows of a place is the number of its one window
        mean = values[covering_sum(begin, end, np.arange(len(values)), len(lengths))]
    return mean, count, lengths
