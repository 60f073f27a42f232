"""Rows of several detectors for one video, brought to common rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .frames import MetricsError, expand_to_frames


@dataclass(frozen=True)
class ScoreRows:
    """One score for each row of a video.

    Attributes:
        frame_start: (n,) first frame of each row.
        frame_stop: (n,) one past the last.
        score: (n,) or, for several detectors, (n, detectors).
    """

    frame_start: NDArray[np.int64]
    frame_stop: NDArray[np.int64]
    score: NDArray[np.float64]


def join_rows(parts: Sequence[ScoreRows]) -> ScoreRows:
    """Bring the scores of several detectors to the same rows.

    Where all parts have the same rows, these are kept, overlaps and gaps included. Else the rows
    cut [first frame of any part, last frame of any part) at every border of a row of any part, and
    in a gap where the nearest row changes. Each part's score on a row is that of its frames, as
    `expand_to_frames` defines it; it is the same for all frames of a row.

    Args:
        parts:
            The rows of one video, one entry for each detector.

    Returns:
        The common rows; `score` is (n, len(parts)) in the order of `parts`.

    Raises:
        MetricsError: there is no part, or the rows of one make no sense.
    """
    if not parts or not all(len(part.score) for part in parts):
        raise MetricsError("there are no rows to join")
    first, *others = parts
    if all(
        np.array_equal(first.frame_start, other.frame_start)
        and np.array_equal(first.frame_stop, other.frame_stop)
        for other in others
    ):
        scores = np.stack([part.score for part in parts], axis=1)
        return ScoreRows(first.frame_start, first.frame_stop, scores)
    start = min(int(part.frame_start.min()) for part in parts)
    stop = max(int(part.frame_stop.max()) for part in parts)
    borders = np.zeros(stop - start, dtype=bool)  # whether a row starts at a frame
    borders[0] = True
    expanded = []
    for part in parts:
        frames = expand_to_frames(part.frame_start, part.frame_stop, part.score, start, stop)
        own = np.concatenate([part.frame_start, part.frame_stop]) - start
        borders[own[own < len(borders)]] = True
        borders[1:] |= frames[1:] != frames[:-1]
        expanded.append(frames)
    starts = np.flatnonzero(borders)
    scores = np.stack([frames[starts] for frames in expanded], axis=1)
    return ScoreRows(starts + start, np.append(starts[1:] + start, stop), scores)
