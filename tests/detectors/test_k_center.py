"""k-center: at most twice the radius of the best choice, found by trying all; reproducible."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from vadpipe.detectors.k_center import k_center


def rows(count: int, width: int = 2, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def radius(x: NDArray[np.float32], chosen: NDArray[np.int64]) -> float:
    """The largest distance of a row to the nearest chosen one."""
    apart = x.astype(np.float64)[:, None] - x[chosen].astype(np.float64)[None]
    return float(np.linalg.norm(apart, axis=2).min(axis=1).max())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_radius_is_at_most_twice_that_of_the_best_choice(seed: int, offset: float) -> None:
    x = rows(12, seed=seed) + np.float32(offset)
    best = min(radius(x, np.array(each)) for each in combinations(range(12), 3))
    assert radius(x, k_center(x, 3, seed)) <= 2 * best * (1 + 1e-6)


def test_every_cluster_has_a_row() -> None:
    """Few of a thousand lie far away; a random choice of five would miss most of them."""
    x = rows(1000, 8)
    for i, at in enumerate((100, 300, 500, 700)):
        x[at] = 100 * np.eye(8)[i]
    assert {100, 300, 500, 700} < set(k_center(x, 5, 0).tolist())


def test_the_next_row_is_the_farthest_as_in_a_slow_oracle() -> None:
    x = rows(60, 5)
    chosen = [int(np.random.default_rng(3).integers(60))]
    while len(chosen) < 12:
        apart = np.linalg.norm(x[:, None].astype(float) - x[chosen][None], axis=2)
        chosen.append(int(apart.min(axis=1).argmax()))
    assert k_center(x, 12, 3).tolist() == sorted(chosen)


def test_the_seed_decides_and_order_is_that_of_the_rows() -> None:
    x = rows(50)
    once = k_center(x, 10, 1)
    assert np.array_equal(once, k_center(x, 10, 1))
    assert any(not np.array_equal(once, k_center(x, 10, seed)) for seed in range(2, 6))
    assert np.array_equal(once, np.unique(once))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_unit_does_not_matter(scale: float) -> None:
    x = rows(40, 6)
    assert np.array_equal(k_center(x * np.float32(scale), 8, 0), k_center(x, 8, 0))


def test_copies_fill_up_and_no_row_comes_twice() -> None:
    x = np.repeat(rows(3), 5, axis=0)
    chosen = k_center(x, 9, 0)
    assert len(set(chosen.tolist())) == 9 and radius(x, chosen) == 0
    assert np.array_equal(k_center(x, 15, 0), np.arange(15))
    assert np.array_equal(k_center(x, 99, 0), np.arange(15))


def test_a_view_is_chosen_from_as_its_copy() -> None:
    x = np.random.default_rng(0).standard_normal((30, 4, 6)).astype(np.float32)
    assert np.array_equal(k_center(x[:, 2], 7, 0), k_center(x[:, 2].copy(), 7, 0))
