"""Greedy k-center: few rows that leave no other row far away.

The next row is always the one that is farthest from those chosen so far (Gonzalez, 1985). The
largest distance that is left is at most twice that of the best choice. PatchCore (Roth et al.,
2022, Sect. 3.2) thins its memory bank in this way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 4096  # that are converted at once


def k_center(rows: NDArray[np.float32], size: int, seed: int) -> NDArray[np.int64]:
    """Choose rows that cover all others.

    Takes `size` products of all rows with one of them, and memory for one copy of the rows.

    Args:
        rows:
            (N, D), finite; may be a view.
        size:
            Rows to choose; with N or fewer, all are chosen.
        seed:
            Draws the first row.

    Returns:
        Indices, sorted; no row twice. Of rows that are equally far, the first is chosen.
    """
    count = len(rows)
    if size >= count:
        return np.arange(count)
    centred = _centred(rows)
    norms = np.einsum("ij,ij->i", centred, centred)
    chosen = np.empty(size, np.int64)
    chosen[0] = np.random.default_rng(seed).integers(count)
    left = np.full(count, np.inf, np.float32)  # squared distance to the nearest chosen row
    for i in range(size):
        if i:
            chosen[i] = left.argmax()
        at = chosen[i]
        squares = centred @ centred[at]
        squares *= -2
        squares += norms
        squares += norms[at]
        np.minimum(left, np.maximum(squares, 0, out=squares), out=left)
        left[at] = -1  # also where all others are copies
    return np.sort(chosen)


def _centred(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows less their mean, scaled into the range of single precision."""
    mean = np.mean(rows, axis=0, dtype=np.float64)
    centred = np.empty(rows.shape, np.float32)
    blocks = range(0, len(rows), BLOCK_ROWS)
    largest = max(float(np.abs(rows[b : b + BLOCK_ROWS] - mean).max(initial=0)) for b in blocks)
    for start in blocks:
        block = slice(start, start + BLOCK_ROWS)
        centred[block] = (rows[block] - mean) / (largest or 1.0)
    return centred
