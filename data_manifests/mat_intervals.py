"""Abnormal intervals of the repackaged archives: the variable `gt` of `ped2.mat` or `avenue.mat`.

The archives of "Future Frame Prediction" (Liu et al., CVPR 2018) hold, for each test video in
order, a matrix of 2 x K: the first and the last frame of K intervals, counted from 1. Where every
video has one interval, `gt` may be a plain matrix with a row for each video.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .mat_file import read_cells
from .record import ManifestError

VARIABLE = "gt"
MOST_FRAMES = 1 << 40  # of a video
Intervals = list[list[tuple[int, int]]]


def read_mat_intervals(path: Path, n_videos: int) -> Intervals:
    """Read the 1-based inclusive intervals of each test video, in order.

    Args:
        path:
            The file.
        n_videos:
            Test videos of the data set.

    Raises:
        ManifestError: the file cannot be read, or is not about so many videos.
    """
    matrices = list(read_cells(path, VARIABLE))
    if len(matrices) == 1 and n_videos > 1:
        table = matrices[0]
        if table.shape == (2, n_videos) and n_videos != 2:
            table = table.T
        matrices = [row.reshape(2, 1) for row in table] if table.shape == (n_videos, 2) else []
    if len(matrices) != n_videos:
        raise ManifestError(f"{path}: {VARIABLE!r} is not about {n_videos} test videos")
    return [_pairs(path, number, matrix) for number, matrix in enumerate(matrices, start=1)]


def _pairs(path: Path, number: int, matrix: NDArray[Any]) -> list[tuple[int, int]]:
    if matrix.size == 0:
        return []
    if matrix.ndim != 2 or matrix.shape[0] != 2:
        if matrix.shape != (1, 2):
            raise ManifestError(
                f"{path}: video {number} has a matrix of shape {matrix.shape}, not 2 x intervals"
            )
        matrix = matrix.T
    if not np.isfinite(matrix).all() or (np.abs(matrix) > MOST_FRAMES).any():
        raise ManifestError(f"{path}: video {number} has frames that no video has")
    if (matrix != matrix.round()).any():
        raise ManifestError(f"{path}: video {number} has a fraction of a frame")
    return [(int(first), int(last)) for first, last in matrix.T]
