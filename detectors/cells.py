"""Pictures of a video, read block by block, and their means over a grid of cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Bag, DetectorError, Track

Grid = tuple[int, int]  # rows, columns
BLOCK_BYTES = 32 << 20  # of stored pictures that are in memory at once


def pictures(bag: Bag, role: str, channels: int) -> Track:
    """Return the only track of a role, whose rows have to be pictures.

    Raises:
        DetectorError: there are several tracks, or the rows are not (height, width, channels).
    """
    tracks = bag.role(role)
    if len(tracks) > 1:
        raise DetectorError(
            f"video {bag.video_id!r} has several tracks of {role!r}: {', '.join(tracks)}; "
            "name one feature set with --features"
        )
    (track,) = tracks.values()
    shape = track.array.shape[1:]
    if len(shape) != 3 or shape[2] != channels or 0 in shape:
        raise DetectorError(
            f"video {bag.video_id!r}: rows of {role!r} are {shape}, not (height, width, {channels})"
        )
    return track


def blocks(track: Track, before: int = 0) -> Iterator[tuple[int, NDArray[Any]]]:
    """Read all rows in order, as many at once as fit into `BLOCK_BYTES`.

    Args:
        track:
            The pictures.
        before:
            Rows of the block before that are read again, at the front of each block but the first.

    Yields:
        The number of the first row, and the rows.
    """
    row = track.array.dtype.itemsize * int(np.prod(track.array.shape[1:]))
    size = max(1, BLOCK_BYTES // row)
    for start in range(0, len(track), size):
        first = max(0, start - before)
        yield first, track.rows(first, min(start + size, len(track)))


def cell_means(values: NDArray[Any], grid: Grid) -> NDArray[np.float64]:
    """Average pictures over the cells of a grid.

    Cells start at the whole pixels below even divisions of the picture. Where a picture has fewer
    pixels than the grid has cells, there is one cell a pixel.

    Args:
        values:
            (n, H, W).
        grid:
            (rows, columns) of cells.

    Returns:
        (n, rows, columns).
    """
    sums = values
    counts = np.ones((1, 1))
    for axis, cells in ((1, grid[0]), (2, grid[1])):
        length = values.shape[axis]
        edges = np.arange(min(cells, length) + 1) * length // min(cells, length)
        sums = np.add.reduceat(sums, edges[:-1], axis=axis, dtype=np.float64)
        counts = counts * np.diff(edges).reshape((-1, 1) if axis == 1 else (1, -1))
    return np.asarray(sums / counts, np.float64)
