"""The training loop: killed and resumed, it ends where it would have ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.bags import weak_bags
from vadpipe.detectors.base import DetectorError, FitOptions
from vadpipe.detectors.fitting import CHECKPOINT
from vadpipe.detectors.mil_ranking import MILRanking, MILRankingConfig
from vadpipe.detectors.ssrl import SSRL, SSRLConfig


class Killed(Exception):
    pass


def make() -> SSRL:
    return SSRL(SSRLConfig(steps=4, batch_size=2))  # three stages of four steps


BAGS = weak_bags(6, grids=["2x3", "3x5"])


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    torch.set_num_threads(1)
    detector = make()
    detector.fit(BAGS, device="cpu", seed=7)
    return detector.state_dict()


@pytest.mark.parametrize("kills", [[1], [4], [5], [8, 9], [3, 6, 11], list(range(1, 12))])
@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_killed_fit_ends_with_the_same_weights(
    kills: list[int], every: float, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    seen: list[tuple[Any, Any]] = []

    def on_step(row: Mapping[str, Any]) -> None:
        seen.append((row["stage"], row["step"]))
        if len(kills_left) and len(set(seen)) >= kills_left[0]:
            kills_left.pop(0)
            raise Killed

    kills_left = list(kills)
    options = FitOptions(folder=tmp_path, checkpoint_seconds=every, on_step=on_step)
    log = None
    for _ in range(len(kills) + 1):
        detector = make()
        try:
            log = detector.fit(BAGS, device="cpu", seed=7, options=options)
        except Killed:
            continue
    assert log is not None and not kills_left
    state = detector.state_dict()
    assert all(np.array_equal(state[k], undisturbed[k]) for k in undisturbed)
    assert [(r["stage"], r["step"]) for r in log.rows] == [
        (stage, step) for stage in ("1 full frame", "2 2x3", "3 3x5") for step in range(1, 5)
    ]
    if every == 0 and kills == [5]:  # really resumed, not started from scratch
        assert seen.count(("1 full frame", 1)) == 1
    assert not list(tmp_path.iterdir())


def test_a_broken_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(DetectorError, match="delete it to start again"):
        make().fit(BAGS, device="cpu", seed=0, options=FitOptions(folder=tmp_path))


def test_rows_hold_every_term_and_their_sum() -> None:
    log = make().fit(BAGS, device="cpu", seed=0)
    for row in log.rows:
        parts = [float(row[t]) for t in ("classification", "magnitude", "sparsity", "smoothness")]
        assert sum(parts) == pytest.approx(float(row["total"]), rel=1e-5)
        spent = [float(row[f"{t}_seconds"]) for t in ("data", "forward", "backward")]
        assert sum(spent) == pytest.approx(float(row["seconds"]), rel=1e-6)
        assert row["lr"] == 0.001
    assert log.summary["steps"] == len(log.rows) == 12


def test_a_loss_that_explodes_stops_the_fit() -> None:
    detector = MILRanking(MILRankingConfig(steps=50, lr=1e30, optimizer="adam", normalise=False))
    with pytest.raises(DetectorError, match="loss is not finite at step"):
        detector.fit(BAGS, device="cpu", seed=0)
