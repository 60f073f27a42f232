"""Clips in which one window of the picture plays fast, made of boxes that were scored already.

Anomalies are mostly one object among normal ones. A copy in which everything is fast does not ask
whether a single object is found; a window with one or two people does. Outside of the window, and
before and after the fast stretch, the boxes are those of the clip itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...detectors.base import DetectorError, Scores

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Windows:
    """The highest score of the boxes of each window in each row.

    Attributes:
        frame_start: (rows,) int64.
        frame_stop: (rows,) int64.
        highest: (rows, windows), 0 where there is no box.
    """

    frame_start: NDArray[np.int64]
    frame_stop: NDArray[np.int64]
    highest: Floats


def by_window(scores: Scores, size: tuple[int, int], grid: tuple[int, int]) -> Windows:
    """Sort the boxes of a video into windows by their middle.

    Args:
        scores:
            With regions. Boxes between rows are left out: they follow from those of the rows.
        size:
            Height and width of the frames in pixels.
        grid:
            Rows and columns of windows.

    Raises:
        DetectorError: the detector returned no boxes.
    """
    if scores.regions is None:
        raise DetectorError("the detector scores no boxes, so no window can be exchanged")
    named = {name: scores.regions[name].to_numpy() for name in ("frame", "x0", "y0", "x1", "y1")}
    value = scores.regions["score"].to_numpy()
    row = np.searchsorted(scores.frame_start, named["frame"])
    inside = row < len(scores.frame_start)
    inside &= scores.frame_start[np.where(inside, row, 0)] == named["frame"]
    middle = [(named["y0"] + named["y1"]) / 2 / size[0], (named["x0"] + named["x1"]) / 2 / size[1]]
    places = [
        np.clip((share * cells).astype(np.int64), 0, cells - 1)
        for share, cells in zip(middle, grid, strict=True)
    ]
    window = places[0] * grid[1] + places[1]
    highest = np.zeros((len(scores.frame_start), grid[0] * grid[1]))
    np.maximum.at(highest, (row[inside], window[inside]), value[inside])
    return Windows(scores.frame_start, scores.frame_stop, highest)


def event_frames(frames: tuple[int, int], fast_frames: int, step: int) -> tuple[int, int]:
    """The frames [start, stop) of the fast stretch: in the middle, starting at a multiple of step.

    It starts at the last multiple that is not after that of a stretch right in the middle; with a
    large step this may lie before the clip (`candidates.check_strides` refuses it).

    Args:
        frames:
            The frames [start, stop) of the file that are the clip.
        fast_frames:
            Of its copy, all of which are in the stretch.
        step:
            A common multiple of all strides that are compared, so that labels are the same.
    """
    start = (frames[0] + (frames[1] - frames[0] - fast_frames) // 2) // step * step
    return start, start + fast_frames


def mixed(clip: Windows, fast: Windows, start: int) -> Iterator[Floats]:
    """The highest box of each row of the clip, for each window that plays fast in turn.

    Args:
        clip:
            Of the clip itself.
        fast:
            Of its copy.
        start:
            Frame of the clip that the first frame of the copy takes the place of; both have rows at
            the same stride.

    Yields:
        (rows,) for each window.
    """
    first = int(np.searchsorted(clip.frame_start, start))
    stop = first + len(fast.frame_start)
    normal = clip.highest.max(1, initial=0.0)
    for window in range(clip.highest.shape[1]):
        rows = normal.copy()
        others = np.delete(clip.highest[first:stop], window, axis=1).max(1, initial=0.0)
        rows[first:stop] = np.maximum(others, fast.highest[: len(others), window])
        yield rows
