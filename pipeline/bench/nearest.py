"""The exact search of `knn`, against scikit-learn's and against plain matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from ...detectors.nearest import NearestRows
from ..engine.threads import limited_threads
from .race import MATMUL, Contestant, as_values, hardware, heading, race

WIDTH = 1024  # of a feature of Inception-I3D
THREADS = 1
OURS, BEFORE, PRODUCT = "search in blocks", "scikit-learn, as before", "matmul fp32, numpy"


def bench_nearest(*, rows: int = 20_000, repeats: int = 3) -> tuple[dict[str, Any], list[str]]:
    """Search for the nearest of normalised random rows, with one thread; all ways take turns.

    Args:
        rows:
            Of the bank; a tenth as many queries are searched for.
        repeats:
            Turns.

    Returns:
        Values for machines, and lines for people.
    """
    bank, queries = _unit(rows, 0), _unit(max(1, rows // 10), 1)
    gigaflops = 2 * rows * len(queries) * WIDTH / 1e9
    side = MATMUL["cpu"]
    square = np.random.default_rng(2).random((side, side), np.float32)
    kept: dict[str, NDArray[np.float64]] = {}

    def keep(name: str, search: Callable[[], NDArray[np.float64]]) -> Callable[[], None]:
        return lambda: kept.update({name: search()})

    with limited_threads(THREADS):
        rates = race(
            [
                Contestant(PRODUCT, "GFLOP/s", 2 * side**3 / 1e9, lambda: square @ square),
                Contestant(BEFORE, "GFLOP/s", gigaflops, keep(BEFORE, lambda: _old(bank, queries))),
                Contestant(OURS, "GFLOP/s", gigaflops, keep(OURS, lambda: _new(bank, queries))),
            ],
            repeats,
        )
    ratio, share = (rates[OURS].best / rates[other].best for other in (BEFORE, PRODUCT))
    off = float(np.abs(kept[OURS] - kept[BEFORE]).max())
    values = {
        "hardware": hardware(),
        "blas_threads": THREADS,
        "rows": rows,
        "queries": len(queries),
        "rates": as_values(rates),
        "share_of_matmul": share,
        "ratio": ratio,
        "largest_difference": off,
    }
    what = f"{len(queries):,} queries, {rows:,} rows of {WIDTH}, {THREADS} thread, best / median"
    lines = heading("cpu", what) + [
        f"{name:26}{rate}   {100 * rate.best / rates[PRODUCT].best:.0f} % of matmul"
        for name, rate in rates.items()
    ]
    lines.append(
        f"{ratio:.2f} x scikit-learn, {100 * share:.0f} % of matmul, largest difference of a "
        f"distance {off:.1e}"
    )
    return values, lines


def _unit(rows: int, seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal((rows, WIDTH), np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


def _new(bank: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
    return NearestRows(bank).distances(x, 1)


def _old(bank: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
    """As `knn` searched before: in double precision, the bank converted for each video."""
    index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank.astype(np.float64))
    return np.asarray(index.kneighbors(x.astype(np.float64))[0], np.float64)
