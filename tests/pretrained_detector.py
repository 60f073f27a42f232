"""A test detector that starts from a pretrained encoder, and from a critic if it is switched on."""

from __future__ import annotations

import sys
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.two_networks import card
from vadpipe.detectors.base import (
    Bag,
    BagSource,
    Config,
    Detector,
    FitLog,
    FitOptions,
    Scores,
    State,
    Supervision,
)
from vadpipe.detectors.state import stored_array
from vadpipe.extractors.weights.load import load_tensors
from vadpipe.extractors.weights.slots import Slots
from vadpipe.pipeline.registry import DETECTORS

NAME = "pretrained"
WIDTH = 8  # of the features of the null extractor
ENCODERS = (card("encoder.first", 0.0), card("encoder.second", 0.0))
CRITICS = (card("critic.only", 0.0),)


class PretrainedConfig(Config):
    """Settings of the test detector."""

    critic: bool = False


class Pretrained(Detector[PretrainedConfig]):
    """Distance of encoded features from their mean over the training videos."""

    name: ClassVar[str] = NAME
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = PretrainedConfig
    supervision: ClassVar[Supervision] = Supervision.NORMAL_ONLY
    networks: ClassVar[Slots] = {"encoder": ENCODERS, "critic": CRITICS}

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self._state: State = {}

    @classmethod
    def networks_for(cls, config: PretrainedConfig) -> Slots:
        """The critic only if it is switched on."""
        return cls.networks if config.critic else {"encoder": ENCODERS}

    @property
    def needs(self) -> tuple[str, ...]:
        """Snippets."""
        return ("snippet",)

    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Load the encoder, and move it by the seed: what is learned is not what was loaded."""
        shape = {"weight": np.empty((3, WIDTH))}
        weights = load_tensors(self.pretrained("encoder"), shape)["weight"] + np.float32(seed)
        if self.config.critic:
            weights = weights * load_tensors(self.pretrained("critic"), shape)["weight"]
        rows = np.concatenate([bag.tracks["snippet"].rows() for bag in source]) @ weights.T
        self._state = {"weight": weights, "mean": rows.mean(0)}
        return FitLog(summary={"videos": len(source)})

    def score(self, bag: Bag) -> Scores:
        """One distance a snippet."""
        track = bag.tracks["snippet"]
        encoded = track.rows() @ self._state["weight"].T
        values: NDArray[np.float64] = np.linalg.norm(encoded - self._state["mean"], axis=1)
        return Scores(track.frame_start, track.frame_stop, {"score": values.astype(np.float64)})

    def state_dict(self) -> State:
        """The moved encoder and the mean."""
        return self._state

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` returned."""
        floats = ("float32", "float64")
        self._state = {
            "weight": stored_array(state, "weight", floats, (3, WIDTH)),
            "mean": stored_array(state, "mean", floats, (3,)),
        }


def register(patch: pytest.MonkeyPatch) -> None:
    """Make it known by its name, as if its file lay among the detectors."""
    place = "pretrained_detector"
    patch.setitem(sys.modules, f"vadpipe.detectors.{place}", sys.modules[__name__])
    patch.setitem(DETECTORS._places, NAME, f"{place}:Pretrained")
