"""Drift of scores: what has moved is found, what has not is flagged at the stated rate."""

from __future__ import annotations

import numpy as np
import pytest

from vadpipe.pipeline.scores.drift import (
    LEAST,
    LEVEL,
    QUANTILES,
    CameraDrift,
    FrameScores,
    compare_camera,
    judged,
    permutation_test,
)

FPS = 5.0


def normal(
    random: np.random.Generator, seconds: float, *, shift: float = 0.0, scale: float = 1.0
) -> FrameScores:
    """An autoregression of order 1 that forgets within some seconds, with constant spread."""
    n, a = int(seconds * FPS), 0.95
    noise = random.standard_normal(n) * np.sqrt(1 - a * a)
    values = np.empty(n)
    values[0] = random.standard_normal()
    for i in range(1, n):
        values[i] = a * values[i - 1] + noise[i]
    return FrameScores(np.ones(n, np.int64), values * scale + shift, FPS)


def test_a_shift_and_a_wider_spread_are_found_and_described() -> None:
    random = np.random.default_rng(0)
    before = [normal(random, 900) for _ in range(4)]
    shifted = [normal(random, 900, shift=1.0) for _ in range(4)]
    found = compare_camera("gate", before, shifted, 2.0)
    assert found.state == "moved" and found.p is not None and found.p <= LEVEL
    median = found.quantiles[0]
    assert median.quantile == 0.5 and median.now - median.before == pytest.approx(1.0, abs=0.25)
    assert median.share > 0.75 and median.p is not None and median.p <= LEVEL
    assert found.over is not None and found.over[1] > 3 * found.over[0]
    assert found.fitted == pytest.approx(3.0, abs=0.3), "the threshold, moved as the scores were"
    wider = [normal(random, 900, scale=2.0) for _ in range(4)]
    found = compare_camera("gate", before, wider, None)
    p = {each.quantile: each.p for each in found.quantiles}
    assert found.state == "moved" and found.over is None
    assert p[0.5] > LEVEL >= p[0.9], "its median stays"


def test_footage_that_is_the_same_is_flagged_at_most_as_often_as_stated() -> None:
    """Neighbouring frames are alike: a test of frames would be sure of a difference mostly."""
    random = np.random.default_rng(1)
    p, naive = [], 0
    for _ in range(60):
        one, other = normal(random, 600), normal(random, 600)
        found = compare_camera("", [one], [other], None)
        assert (found.stretches, found.stretch_seconds) == ((10, 10), 60.0)
        p.append(found.p if found.p is not None else 0.0)
        apart = abs((one.values > 0).mean() - (other.values > 0).mean())
        naive += bool(apart > 2.6 * np.sqrt(0.5 / len(one.values)))  # p < 0.01 for frames
    # Of 60 p values 6 are below 0.1; 15 or more are so once in 1,000 tries.
    assert sum(each <= 0.1 for each in p) < 15
    assert sum(each <= LEVEL for each in p) <= 4
    assert sum(each <= 0.5 for each in p) > 15, "and they are no larger than they should be"
    assert naive > 25


@pytest.mark.parametrize(
    ("before", "now", "why"),
    [
        (600.0, 7.9 * 60, "8 stretches of at least 60 s are needed of both"),
        (100.0, 6000.0, "there are 100 s of training and 6000 s of new footage"),
        (None, 600.0, "training knows nothing of it"),
        (600.0, None, "there is no new footage of it"),
    ],
)
def test_little_footage_is_said_to_be_too_little(
    before: float | None, now: float | None, why: str
) -> None:
    random = np.random.default_rng(3)
    sides = [[] if s is None else [normal(random, s, shift=9.0)] for s in (before, now)]
    found = compare_camera("gate", *sides, None)
    assert found.state == "cannot tell" and why in found.why and found.p is None
    assert all(each.p is None for each in found.quantiles)


def test_quantiles_and_shares_are_those_of_all_frames() -> None:
    runs = FrameScores(np.array([50, 40, 9, 1]), np.array([0.0, 1.0, 2.0, 3.0]), 1.0)
    plain = FrameScores(np.ones(100, np.int64), np.repeat([0.0, 1, 2, 3], [50, 40, 9, 1]), 1.0)
    for video in (runs, plain):
        found = compare_camera("", [video], [video], 1.5)
        assert [each.before for each in found.quantiles] == [0.0, 1.0, 2.0, 3.0]
        assert [each.share for each in found.quantiles] == pytest.approx([0.5, 0.1, 0.01, 0.0])
        assert found.over == pytest.approx((0.1, 0.1)) and found.fitted == 1.0


def test_stretches_are_as_long_as_the_footage_allows() -> None:
    ones = np.zeros(10)
    hours = FrameScores(np.full(10, 3600), ones, 1.0)  # ten hours
    found = compare_camera("", [hours], [hours], None)
    assert (found.stretch_seconds, found.stretches) == (3600.0, (10, 10))
    assert found.state == "same" and found.p == 1.0
    half = FrameScores(np.full(10, 600), ones, 1.0)
    assert compare_camera("", [hours], [half], None).stretch_seconds == 600.0
    short = FrameScores(np.full(10, 59), ones, 10.0)  # a minute at most: none is cut from it
    assert compare_camera("", [hours], [short] * 20, None).state == "cannot tell"


def test_the_test_is_exact_where_stretches_are_exchangeable() -> None:
    """All p values of one data set under each of its relabellings are uniform."""
    random = np.random.default_rng(4)
    n = 2 * LEAST
    table = np.concatenate([np.full((n, 1), 100.0), random.poisson(4, (n, 4))], axis=1)
    p = []
    for seed in range(150):
        order = random.permutation(n)
        halves = table[order[:LEAST]], table[order[LEAST:]]
        p.append(permutation_test(*halves, seed=seed, permutations=199)[0])
    assert sum(each <= 0.1 for each in p) <= 29  # 15 are expected; 30 once in 5,000 tries
    assert min(p) >= 1 / 200


def test_stretches_that_are_all_alike_are_certain() -> None:
    table = np.array([[10.0, 0, 0, 0, 0]] * LEAST), np.array([[10.0, 5, 5, 5, 5]] * LEAST)
    p, each = permutation_test(*table)
    assert p <= LEVEL and (each <= LEVEL).all()
    assert permutation_test(table[0], table[0])[0] == 1.0


def test_many_cameras_are_judged_together() -> None:
    def camera(name: str, p: float | None) -> CameraDrift:
        return CameraDrift(name, "same" if p is not None else "cannot tell", "", (), (1, 1), p=p)

    found = judged([camera(*each) for each in (("a", 0.004), ("b", 0.002), ("c", None), ("d", 1))])
    assert [each.state for each in found] == ["moved", "moved", "cannot tell", "same"]
    found = judged([camera("a", 0.009), camera("b", 0.5)])
    assert [each.state for each in found] == ["same", "same"], "0.009 of one of two is no wonder"
    assert len(QUANTILES) == 4
