"""The tail of normal scores: closed forms, drawn tails of a known shape, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import expon, genpareto

from vadpipe.pipeline.scores.events import EventError
from vadpipe.pipeline.scores.tail import LEAST_PEAKS, Tail


def quantiles(distribution, n: int) -> np.ndarray:
    """A sample as regular as it can be."""
    return distribution.ppf((np.arange(n) + 0.5) / n)


def test_exponential_tails_have_shape_0_and_a_logarithmic_return_level():
    level, scale, days = 3.0, 2.0, 4.0
    tail = Tail.fit(level + quantiles(expon(scale=scale), 2000), level, days)
    assert abs(tail.shape) < 0.02 and tail.scale == pytest.approx(scale, rel=0.02)
    assert (tail.rate, tail.peaks) == (500.0, 2000)
    exact = Tail(level, 500.0, 0.0, scale, 2000)
    for rate in (100.0, 1.0, 1e-3):
        assert exact.threshold(rate) == pytest.approx(level + scale * math.log(500 / rate))
        assert tail.threshold(rate) == pytest.approx(exact.threshold(rate), rel=0.1)


@pytest.mark.parametrize("shape", [-0.3, 0.25, 0.6])
def test_a_drawn_tail_is_found_again(shape):
    tail = Tail.fit(7 + quantiles(genpareto(shape, scale=0.5), 4000), 7.0, 1.0)
    assert tail.shape == pytest.approx(shape, abs=0.03)
    assert tail.scale == pytest.approx(0.5, rel=0.05)


def test_threshold_and_rate_are_inverse_and_monotone():
    tail = Tail.fit(1 + quantiles(genpareto(0.1, scale=3.0), 300), 1.0, 2.0)
    rates = [100.0, 10.0, 1.0, 0.1, 0.01]
    values = [tail.threshold(rate) for rate in rates]
    assert values == sorted(values)
    assert [tail.rate_above(value) for value in values] == pytest.approx(rates, rel=1e-6)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_the_unit_of_the_score_does_not_matter(unit):
    peaks = 2 + quantiles(genpareto(0.2, scale=1.5), 200)
    plain, scaled = Tail.fit(peaks, 2.0, 1.0), Tail.fit(peaks * unit, 2.0 * unit, 1.0)
    assert scaled.shape == pytest.approx(plain.shape, abs=1e-6)
    assert scaled.threshold(0.5) == pytest.approx(plain.threshold(0.5) * unit, rel=1e-6)


def test_too_few_equal_and_impossible_peaks_are_refused():
    few = 1 + quantiles(expon(), LEAST_PEAKS - 1)
    with pytest.raises(EventError, match=f"a tail needs {LEAST_PEAKS} events .* there are 9"):
        Tail.fit(few, 1.0, 1.0)
    with pytest.raises(EventError, match="all 50 peaks above 1 are equal"):
        Tail.fit(np.full(50, 2.0), 1.0, 1.0)
    ends = quantiles(genpareto(-1.5, scale=1.0), 500)  # most scores are the largest ones
    with pytest.raises(EventError, match=r"tail of shape -.*take a budget"):
        Tail.fit(1 + ends, 1.0, 1.0)


def test_a_rate_that_the_footage_shows_is_no_extreme():
    tail = Tail(1.0, 20.0, 0.0, 1.0, 100)
    with pytest.raises(EventError, match=r"20 events a day .* take --budget 30"):
        tail.threshold(30.0)
