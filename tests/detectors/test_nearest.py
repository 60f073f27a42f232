"""nearest: brute force in double precision, on data that rounding would spoil; blocks, memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from vadpipe.detectors import nearest
from vadpipe.detectors.nearest import NearestRows

Rows = NDArray[np.float32]


def oracle(bank: Rows, x: Rows, k: int) -> NDArray[np.float64]:
    """Every distance by its differences: (n, k)."""
    apart = x.astype(np.float64)[:, None] - bank.astype(np.float64)[None]
    distances = np.sqrt((apart**2).sum(axis=2))
    distances.sort(axis=1)
    return np.asarray(distances[:, :k])


def normal(*shape: int, seed: int = 0) -> Rows:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def unit(rows: Rows) -> Rows:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def clusters(rows: int, seed: int) -> Rows:
    """Two dense clusters, far apart: their mean is no centre of either."""
    sides = np.where(np.arange(rows) % 2, 1e4, -1e4).astype(np.float32)
    return normal(rows, 24, seed=seed) + sides[:, None]


MAKERS: dict[str, Callable[[int, int], Rows]] = {
    "unit": lambda rows, seed: unit(normal(rows, 24, seed=seed)),
    "offset of 1e4": lambda rows, seed: normal(rows, 24, seed=seed) + np.float32(1e4),
    "two clusters": clusters,
    "whole numbers, many ties": lambda rows, seed: np.round(normal(rows, 3, seed=seed)),
    "one column": lambda rows, seed: normal(rows, 1, seed=seed),
    "1e30": lambda rows, seed: normal(rows, 24, seed=seed) * np.float32(1e30),
    "1e-30": lambda rows, seed: normal(rows, 24, seed=seed) * np.float32(1e-30),
    "1e-30 next to 1": lambda rows, seed: np.concatenate(
        [normal(rows - 1, 24, seed=seed) * np.float32(1e-30), np.ones((1, 24), np.float32)]
    ),
    "zeros": lambda rows, seed: np.zeros((rows, 24), np.float32),
}


@pytest.fixture(params=[False, True], ids=["one block", "small blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time, rows and queries lie in several blocks, the last of them smaller."""
    if request.param:
        monkeypatch.setattr(nearest, "MOST_ROWS", 64)
        monkeypatch.setattr(nearest, "BLOCK_BYTES", 1 << 14)
        monkeypatch.setattr(nearest, "PIECE", 20)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("kind", MAKERS)
def test_distances_equal_brute_force(kind: str, k: int, blocks: None) -> None:
    bank, x = MAKERS[kind](301, 0), MAKERS[kind](97, 1)
    expected = oracle(bank, x, k)
    # More rows than are kept are equally near as far as double precision goes, next to a norm of 5.
    stated = np.sqrt(1e-15 * 24 * 2 * 24) if "next to" in kind else 0
    assert NearestRows(bank).distances(x, k) == pytest.approx(expected, rel=1e-12, abs=stated)


@pytest.mark.parametrize("k", [1, 40, 200, 300])
def test_any_number_of_neighbours_up_to_the_rows(k: int, blocks: None) -> None:
    bank, x = normal(300, 8), normal(20, 8, seed=1)
    assert NearestRows(bank).distances(x, k) == pytest.approx(oracle(bank, x, k), rel=1e-12)


def test_copies_of_the_queries_are_at_distance_zero(blocks: None) -> None:
    bank = np.repeat(unit(normal(40, 16)) + np.float32(100), 30, axis=0)  # each 30 times
    found = NearestRows(bank).distances(bank[::30], 3)
    assert np.array_equal(found, np.zeros((40, 3)))


def test_many_equally_near_rows_cost_no_more_than_the_stated_error(blocks: None) -> None:
    bank = np.repeat(normal(10, 16) + np.float32(50), 40, axis=0)
    x = normal(30, 16, seed=1) + np.float32(50)
    assert NearestRows(bank).distances(x, 2) == pytest.approx(oracle(bank, x, 2), rel=1e-12)


def test_rows_that_are_left_out_are_never_found(blocks: None) -> None:
    bank, x = normal(300, 8), normal(50, 8, seed=1)
    allowed = np.random.default_rng(2).random(300) < 0.1
    found = NearestRows(bank).distances(x, 4, allowed)
    assert found == pytest.approx(oracle(bank[allowed], x, 4), rel=1e-12)
    few = np.zeros(300, bool)
    few[[7, 250]] = True
    found = NearestRows(bank).distances(bank[:9], 2, few)
    assert found == pytest.approx(oracle(bank[few], bank[:9], 2), rel=1e-12)


def test_a_query_has_the_same_distances_alone_and_among_others(blocks: None) -> None:
    bank, x = normal(300, 40), normal(70, 40, seed=1)
    search = NearestRows(bank)
    together = search.distances(x, 2)
    alone = np.concatenate([search.distances(x[i : i + 1], 2) for i in range(70)])
    assert np.array_equal(together, alone)


def test_a_view_with_strides_is_searched_as_its_copy(blocks: None) -> None:
    bank = normal(200, 3, 8)
    view, x = bank[:, 1], normal(9, 8, seed=1)
    found = NearestRows(view).distances(x, 1)
    assert np.array_equal(found, NearestRows(view.copy()).distances(x, 1))


def test_no_queries_have_no_distances() -> None:
    assert NearestRows(normal(5, 3)).distances(np.empty((0, 3), np.float32), 2).shape == (0, 2)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "BLOCK_BYTES", 1 << 20)
    bank, x = normal(16_000, 128), normal(150, 128, seed=1)
    copies = np.repeat(bank[:160], 100, axis=0)
    tracemalloc.start()
    NearestRows(bank).distances(x, 1)
    NearestRows(bank).distances(x, 100)
    NearestRows(copies).distances(x[:20], 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7 << 20 < bank.nbytes
