"""Random numbers of a fit: saved, restored, and the caller's left alone."""

from __future__ import annotations

import pytest
import torch

from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.randomness import (
    private_random,
    random_state,
    set_random_state,
    stage_seed,
)

CPU = torch.device("cpu")


def test_a_restored_state_draws_the_same() -> None:
    with private_random("cpu"):
        torch.manual_seed(1)
        state = random_state(CPU)
        first = torch.rand(3)
        torch.rand(5)
        set_random_state(state, CPU)
        assert torch.equal(torch.rand(3), first)


def test_another_kind_of_device_is_refused() -> None:
    state = {**random_state(CPU), "device": "cuda"}
    with pytest.raises(DetectorError, match=r"ran on cuda, this one runs on cpu: .* --device cuda"):
        set_random_state(state, CPU)


def test_private_numbers_leave_the_callers_alone() -> None:
    before = torch.get_rng_state()
    with private_random("cpu"):
        torch.manual_seed(3)
        torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_differ_by_seed_stage_and_step() -> None:
    seeds = {stage_seed(s, stage, step) for s in range(4) for stage in range(3) for step in (0, 5)}
    assert len(seeds) == 24 and all(0 <= seed < 1 << 63 for seed in seeds)
    assert 0 <= stage_seed(1 << 62, 3, 9) < 1 << 63
