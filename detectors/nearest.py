"""Exact search for the nearest of many rows: matrix products find candidates, differences decide.

|q - b|^2 = |q|^2 - 2 q.b + |b|^2 is a matrix product, but it loses small distances to rounding.
Here it only says how near each row can be at least, with all rounding counted. Rows that may be
among the nearest are compared again, by their differences in double precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

BLOCK_BYTES = 16 << 20  # of the rows, the queries and the products of a block, each
MOST_ROWS = 4096  # of a block
LEAST_ROWS = 64  # of a block, however wide they are
EXTRA_CANDIDATES = 15  # that are kept besides the k nearest
PIECE = 512  # rows among which the nearest are looked for at once
EXCLUDED = 1e30  # squared distance of a row that is left out: none is as far away
MODERATE = (1e-5, 1e5)  # largest magnitudes whose squares need no scaling

Floats = NDArray[np.floating[Any]]


class NearestRows:
    """The rows that queries are compared with.

    Memory besides the rows is at most seven times `BLOCK_BYTES`; where 64 rows are larger than
    that, it is seven times their size.

    Args:
        bank:
            (N, D) float32, finite; it is not copied and may be a view with strides.
    """

    def __init__(self, bank: NDArray[np.float32]) -> None:
        self._bank = bank
        total, self._largest = np.zeros(bank.shape[1]), 0.0
        for start, stop in self._blocks(np.float32):
            block = bank[start:stop]
            total += block.sum(axis=0, dtype=np.float64)
            self._largest = max(self._largest, float(block.max()), -float(block.min()))
        # Only differences from the mean are multiplied: an offset of all rows costs no digits.
        self._centre = (total / max(1, len(bank))).astype(np.float32)

    def __len__(self) -> int:
        return len(self._bank)

    def distances(
        self, x: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Euclidean distances to the k nearest rows, ascending.

        They do not depend on how many queries there are at once. Where more than `EXTRA_CANDIDATES`
        rows are equally near within the rounding of double precision, some of them count as the
        nearest: a squared distance is then too large by at most 1e-15 D (|q|^2 + |b|^2), from the
        mean.

        Args:
            x:
                (n, D) float32, finite.
            k:
                From 1 to the number of rows that are allowed.
            allowed:
                (N,) False leaves a row out; None allows all.

        Returns:
            (n, k).
        """
        squares = np.empty((len(x), k))
        rows = self._block_rows(np.float32)
        size = min(rows, BLOCK_BYTES // (4 * rows), BLOCK_BYTES // (64 * (k + EXTRA_CANDIDATES)))
        size = max(LEAST_ROWS, size)
        for start in range(0, len(x), size):
            queries = x[start : start + size]
            nearest, settled = self._search(queries, k, allowed, np.float32)
            if not settled.all():
                left = np.flatnonzero(~settled)
                nearest[left] = self._search(queries[left], k, allowed, np.float64)[0]
            squares[start : start + size] = nearest
        return np.sqrt(squares)

    def _block_rows(self, dtype: DTypeLike) -> int:
        fit = BLOCK_BYTES // int(np.dtype(dtype).itemsize * (self._bank.shape[1] + 1))
        return max(LEAST_ROWS, min(MOST_ROWS, fit))

    def _blocks(self, dtype: DTypeLike) -> list[tuple[int, int]]:
        size, count = self._block_rows(dtype), len(self._bank)
        return [(start, min(start + size, count)) for start in range(0, count, size)]

    def _search(
        self, x: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, dtype: DTypeLike
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The k smallest squared distances, (n, k), and whether no other row is nearer, (n,)."""
        least, index = self._candidates(x, k + EXTRA_CANDIDATES, allowed, dtype)
        return self._decided(x, k, least, index)

    def _candidates(
        self, x: NDArray[np.float32], most: int, allowed: NDArray[np.bool_] | None, dtype: DTypeLike
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """What squared distances are at least, ascending, and of which rows: (n, most) each."""
        width = self._bank.shape[1]
        kind = np.finfo(dtype)
        # Of sums of D + 1 products in any order, and of the rounding of what is multiplied. Norms
        # and products share it: each of the three is off by at most this share of the norms.
        bound = (1.25 * width + 64) * float(kind.eps) / 2
        scale = self._scale(x)
        own = np.empty((len(x), width + 1), dtype)
        queries, q_norms = self._centred(x, scale, dtype, own)
        queries[:, :width] *= -2
        queries[:, width] = 1
        found = _Smallest(len(x), min(most, len(self._bank)), dtype)
        blocks = self._blocks(dtype)
        longest = blocks[0][1]
        # Both are used again: the system needs longer for fresh memory than for filling it.
        of_rows = np.empty((longest, width + 1), dtype)
        of_products = np.empty(len(x) * longest, dtype)
        for start, stop in blocks:
            count = stop - start
            rows, norms = self._centred(self._bank[start:stop], scale, dtype, of_rows[:count])
            rows[:, width] = (1 - 3 * bound) * norms
            if allowed is not None:
                rows[~allowed[start:stop], width] = EXCLUDED
            products = of_products[: len(x) * count].reshape(len(x), count)
            np.matmul(queries, rows.T, out=products)  # |b|^2 - 2 q.b, less what rounding may add
            found.add(products, start)
        least = found.values.astype(np.float64) + ((1 - 2 * bound) * q_norms)[:, None]
        least = (least - 4 * width * float(kind.tiny)) / scale**2
        order = np.argsort(least, axis=1)
        return np.take_along_axis(least, order, 1), np.take_along_axis(found.rows, order, 1)

    def _scale(self, x: NDArray[np.float32]) -> float:
        """A power of two that keeps squares of all values in range, also in single precision."""
        largest = max(self._largest, float(np.abs(x).max(initial=0)))
        if MODERATE[0] < largest < MODERATE[1] or largest == 0:
            return 1.0
        return 2.0 ** -int(np.ceil(np.log2(largest)))

    def _centred(
        self, values: NDArray[np.float32], scale: float, dtype: DTypeLike, out: Floats
    ) -> tuple[Floats, NDArray[np.float64]]:
        """Values less the mean of the rows, with room for one more column, and squared norms."""
        width = values.shape[1]
        centre = self._centre.astype(dtype)
        if scale == 1:
            np.subtract(values, centre, out=out[:, :width])
        else:
            np.multiply(values, np.asarray(scale, dtype), out=out[:, :width])
            out[:, :width] -= centre * np.asarray(scale, dtype)
        body = out[:, :width]
        return out, np.einsum("ij,ij->i", body, body).astype(np.float64)

    def _decided(
        self,
        x: NDArray[np.float32],
        k: int,
        least: NDArray[np.float64],
        index: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Compare candidates by their differences, as few as decide."""
        squares = np.full(least.shape, np.inf)
        every = np.ones((len(x), k), bool)
        squares[:, :k] = self._squares(x, every, index).reshape(len(x), k)
        may_be = least <= squares[:, :k].max(axis=1)[:, None]
        may_be[:, :k] = False
        squares[may_be] = self._squares(x, may_be, index)
        squares.sort(axis=1)
        limit = squares[:, k - 1]
        settled = (least[:, -1] >= limit) | (limit == 0)
        if least.shape[1] == len(self._bank):
            settled[:] = True
        return squares[:, :k], settled

    def _squares(
        self, x: NDArray[np.float32], chosen: NDArray[np.bool_], index: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Squared distances of chosen (query, candidate) pairs, in double precision."""
        query, place = np.nonzero(chosen)
        rows = index[query, place]
        squares = np.empty(len(rows))
        size = self._block_rows(np.float64)
        for start in range(0, len(rows), size):
            some = slice(start, start + size)
            apart = x[query[some]].astype(np.float64)
            apart -= self._bank[rows[some]]
            squares[some] = np.einsum("ij,ij->i", apart, apart)
        return squares


class _Smallest:
    """The smallest values of each query so far, and their rows.

    Args:
        queries:
            How many.
        most:
            Values of each that are kept.
        dtype:
            Of the values.
    """

    def __init__(self, queries: int, most: int, dtype: DTypeLike) -> None:
        self.values: Floats = np.full((queries, most), np.inf, dtype)
        self.rows = np.zeros((queries, most), np.int64)
        self._empty = True

    def add(self, values: Floats, first: int) -> None:
        """Take a block of values, (queries, b); its rows are counted from `first`."""
        if self._empty:
            self._merge_pieces(values[:, :PIECE], first)
            values, first, self._empty = values[:, PIECE:], first + PIECE, False
        smaller = values < self.values.max(axis=1)[:, None]
        counts = np.count_nonzero(smaller, axis=1)
        longest = int(counts.max(initial=0))
        if longest > PIECE // 4:
            self._merge_pieces(values, first)
        elif longest:
            # One line for each query, filled up with infinity.
            query, column = divmod(np.flatnonzero(smaller), values.shape[1])
            place = np.arange(len(query)) - (np.cumsum(counts) - counts)[query]
            found = np.full((len(values), longest), np.inf, values.dtype)
            rows = np.zeros((len(values), longest), np.int64)
            found[query, place] = values[query, column]
            rows[query, place] = first + column
            self._merge(found, rows)

    def _merge_pieces(self, values: Floats, first: int) -> None:
        for start in range(0, values.shape[1], PIECE):
            piece = values[:, start : start + PIECE]
            rows = first + start + np.arange(piece.shape[1])
            self._merge(piece, np.broadcast_to(rows, piece.shape))

    def _merge(self, values: Floats, rows: NDArray[np.int64]) -> None:
        most = self.values.shape[1]
        values = np.concatenate([self.values, values], axis=1)
        rows = np.concatenate([self.rows, rows], axis=1)
        kept = np.argpartition(values, most - 1, axis=1)[:, :most]
        self.values = np.take_along_axis(values, kept, 1)
        self.rows = np.take_along_axis(rows, kept, 1)
