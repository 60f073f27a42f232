"""Detectors that learn nothing: what they promise to the train stage."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from tests.bags import Bags, bag
from vadpipe.detectors.base import Bag, Config, DetectorError, Scores
from vadpipe.detectors.unlearned import Unlearned


class Mean(Unlearned[Config]):
    """The mean of each snippet."""

    name: ClassVar[str] = "mean"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = Config

    @property
    def needs(self) -> tuple[str, ...]:
        return ("snippet",)

    def score(self, bag: Bag) -> Scores:
        track = bag.tracks["snippet"]
        return Scores(track.frame_start, track.frame_stop, {"score": track.rows().mean(1)})


SOURCE = Bags(
    [bag(name, {"snippet": np.full((2, 3), value)}) for name, value in (("a", 1.0), ("b", 4.0))]
)


def test_training_videos_are_held_out_as_they_are() -> None:
    detector = Mean(Config())
    assert detector.fit(SOURCE, device="cpu", seed=0).summary == {"videos": 2}
    held_out = detector.held_out_scores(SOURCE, seed=0)
    assert held_out is not None
    assert [scores.columns["score"].tolist() for scores in held_out] == [[1, 1], [4, 4]]
    assert not detector.draws(SOURCE) and not detector.train_options


def test_a_model_is_a_mark() -> None:
    detector = Mean(Config())
    state = detector.state_dict()
    assert len(state) == 1
    detector.load_state_dict(state)
    assert detector.score(SOURCE[1]).columns["score"].tolist() == [4, 4]


def test_no_training_videos_are_an_error() -> None:
    with pytest.raises(DetectorError, match="no training videos"):
        Mean(Config()).fit(Bags([]), device="cpu", seed=0)
