"""motion_energy: a slow oracle in exact integers, borders of blocks, the first frame."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.bags import Bags, bag
from vadpipe.detectors import cells
from vadpipe.detectors.motion_energy import MotionEnergy, MotionEnergyConfig

VIDEO = np.random.default_rng(0).integers(0, 256, (7, 5, 6, 3), dtype=np.uint8)


def energy(video: np.ndarray, t: int) -> Fraction:
    pairs = zip(video[t].ravel().tolist(), video[t - 1].ravel().tolist(), strict=True)
    return Fraction(sum((a - b) ** 2 for a, b in pairs), video[0].size)


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_scores_equal_a_slow_oracle(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "BLOCK_BYTES", rows * VIDEO[0].size)
    scores = MotionEnergy(MotionEnergyConfig()).score(bag("a", {"pixels": VIDEO}))
    expected = [float(energy(VIDEO, max(t, 1))) for t in range(7)]
    assert scores.columns["score"].tolist() == expected


def test_the_map_says_where() -> None:
    video = np.full((3, 8, 8, 3), 100, np.uint8)
    video[2, 4:, :4] = 110
    scores = MotionEnergy(MotionEnergyConfig(cells=(2, 2))).score(bag("a", {"pixels": video}))
    assert scores.maps["energy"][2].tolist() == [[0, 0], [100, 0]]
    assert scores.columns["score"].tolist() == [0, 0, 25]


def test_one_frame_has_no_energy() -> None:
    scores = MotionEnergy(MotionEnergyConfig()).score(bag("a", {"pixels": VIDEO[:1]}))
    assert scores.columns["score"].tolist() == [0]


def test_nothing_is_learned() -> None:
    detector, source = MotionEnergy(MotionEnergyConfig()), Bags([bag("a", {"pixels": VIDEO})])
    log = detector.fit(source, device="cpu", seed=0)
    assert log.summary == {"videos": 1}
    held_out = detector.held_out_scores(source, seed=0)
    assert held_out is not None
    assert np.array_equal(held_out[0].columns["score"], detector.score(source[0]).columns["score"])
