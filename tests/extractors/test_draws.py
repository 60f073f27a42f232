"""Random numbers by name: fixed values, ranges and moments."""

from __future__ import annotations

import numpy as np

from vadpipe.extractors.draws import Draws


def test_the_name_decides() -> None:
    assert Draws("noise", 0, "abc", 7).words(2).tolist() == RECORDED
    assert not np.array_equal(Draws("a", 1).words(3), Draws("a", 2).words(3))


def test_numbers_lie_in_their_ranges() -> None:
    draws = Draws("ranges")
    assert {draws.below(3) for _ in range(100)} == {0, 1, 2}
    assert {draws.between(4, 6) for _ in range(100)} == {4, 5, 6}
    units = draws.units(10_000)
    assert 0 <= units.min() < 0.01 and 0.99 < units.max() < 1
    assert abs(units.mean() - 0.5) < 0.01 and 0 <= draws.unit() < 1


def test_normal_numbers_have_the_moments_of_the_normal_distribution() -> None:
    drawn = Draws("normal").normal((100, 200))
    assert drawn.shape == (100, 200) and drawn.dtype == np.float32
    moments = [(drawn.astype(np.float64) ** power).mean() for power in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.1)


def test_an_order_holds_every_value_once() -> None:
    values = list(range(50))
    order = Draws("order").shuffled(values)
    assert sorted(order) == values != order
    assert order == Draws("order").shuffled(values)


RECORDED = [6621197649196184037, 16602168168660645598]  # keys of version 0.1 rest on them
