"""Learning rates: closed forms of warm-up, constant and cosine."""

from __future__ import annotations

import math

import pytest
import torch

from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.schedule import Schedule


def factors(schedule: Schedule, steps: int) -> list[float]:
    return [schedule.factor(step, steps) for step in range(steps)]


def test_the_default_changes_nothing() -> None:
    assert factors(Schedule(), 7) == [1.0] * 7


def test_warm_up_is_linear_and_ends_at_the_full_rate() -> None:
    assert factors(Schedule(warmup=4), 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_falls_from_one_along_half_a_cosine() -> None:
    found = factors(Schedule(name="cosine"), 8)
    assert found == pytest.approx([(1 + math.cos(math.pi * t / 8)) / 2 for t in range(8)])
    assert found[0] == 1.0 and found[4] == pytest.approx(0.5)


def test_cosine_starts_after_the_warm_up() -> None:
    found = factors(Schedule(name="cosine", warmup=2), 6)
    rest = [1.0, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4]
    assert found == pytest.approx([0.5, 1.0, *rest])


def test_cosine_equals_torchs() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    expected = []
    for _ in range(10):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert factors(Schedule(name="cosine"), 10) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [-1, 5, 6])
def test_a_warm_up_that_never_ends_is_refused(warmup: int) -> None:
    with pytest.raises(DetectorError, match=f"x: a warm-up of {warmup} steps .* 5 steps"):
        Schedule(warmup=warmup).check(5, "x")
    Schedule(warmup=4).check(5, "x")
