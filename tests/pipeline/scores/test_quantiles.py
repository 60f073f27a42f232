"""Quantiles of held-out scores: known places, order, what changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vadpipe.pipeline.scores.held_out import HeldOutError
from vadpipe.pipeline.scores.quantiles import QuantileMap

some = st.lists(st.integers(-50, 50), min_size=1, max_size=20)
anything = st.floats(allow_nan=False, allow_infinity=False)


def test_ranks_ties_and_places_between() -> None:
    to_quantile = QuantileMap([3.0, 1.0, 2.0, 2.0])
    scores = [0.0, 1.0, 1.5, 2.0, 2.5, 3.0]
    np.testing.assert_allclose(to_quantile(scores), [0.1, 0.2, 0.3, 0.5, 0.7, 0.8], rtol=1e-15)


def test_above_the_largest_the_last_half_step_is_filled() -> None:
    to_quantile = QuantileMap([1.0, 2.0, 4.0])  # n + 1 = 4, half a step is 0.125, spread 4 - 2
    np.testing.assert_allclose(
        to_quantile([4.0, 4.0 + 1e-12, 6.0, 10.0, 1e300]), [0.75, 0.875, 0.9375, 0.96875, 1.0]
    )
    assert QuantileMap([2.0, 4.0, 4.0])(6.0) == 1 - 0.125 / 2, "spread 4 - 2: the median is 4"
    assert QuantileMap([4.0])(6.0) == 1 - 0.25 / 3, "one score: spread 1"


def test_a_spread_of_rounding_stays_below_1() -> None:
    to_quantile = QuantileMap([0.1 + 0.2] * 99 + [0.3])
    assert to_quantile(5.0) == np.nextafter(1.0, 0.0)


@given(
    held_out=st.lists(anything, min_size=1, max_size=20),
    scores=st.lists(anything | st.just(np.inf), min_size=1, max_size=20),
)
@example(held_out=[-1.7e308, 1.7e308], scores=[1.79e308])
@example(held_out=[-1.7e308] * 3, scores=[1.79e308, np.inf])
@example(held_out=[0.0, 5e-324], scores=[1e-300, 1.0])
@settings(max_examples=300, deadline=None)
def test_any_finite_scores_map_inside_0_and_1(held_out: list[float], scores: list[float]) -> None:
    quantiles = QuantileMap(held_out)(np.sort(scores))
    assert (quantiles > 0).all() and (quantiles < 1).all()
    assert (np.diff(quantiles) >= 0).all()


def test_held_out_scores_are_uniform() -> None:
    scores = np.random.default_rng(0).normal(size=99)
    np.testing.assert_allclose(np.sort(QuantileMap(scores)(scores)), np.arange(1, 100) / 100)


@given(held_out=some, scores=some)
@settings(max_examples=200, deadline=None)
def test_order_is_kept_and_strict_above_the_largest(held_out: list[int], scores: list[int]) -> None:
    ordered = np.unique(scores)
    quantiles = QuantileMap(held_out)(ordered)
    assert (quantiles > 0).all() and (quantiles < 1).all()
    assert (np.diff(quantiles) >= 0).all()
    assert (np.diff(quantiles[ordered >= max(held_out)]) > 0).all()


@given(held_out=some, scores=some)
@settings(max_examples=200, deadline=None)
def test_increasing_maps_change_nothing(held_out: list[int], scores: list[int]) -> None:
    """Any of them up to the largest held-out score; straight ones everywhere."""
    x, s = np.array(held_out, float), np.array(scores, float)
    before = QuantileMap(x)(s)
    inside = s <= x.max()
    for bend in (np.exp, lambda v: v**3, np.arctan):
        bent = QuantileMap(bend(x / 50))(bend(s / 50))
        np.testing.assert_array_equal(bent[inside], before[inside])
        assert np.abs(bent - before).max() <= 0.5 / (len(x) + 1)
    if len(set(held_out)) > 1:  # else the spread is 1, whatever the unit
        np.testing.assert_allclose(QuantileMap(4 * x + 8)(4 * s + 8), before, rtol=1e-12)


@pytest.mark.parametrize("scores", [[], [np.nan], [np.inf, 1.0]])
def test_without_finite_scores_there_is_no_map(scores: list[float]) -> None:
    with pytest.raises(HeldOutError, match="finite held-out scores"):
        QuantileMap(scores)
