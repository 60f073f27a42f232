"""The base of detectors that learn nothing: training videos only set the threshold."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .base import (
    BagSource,
    ConfigT,
    Detector,
    DetectorError,
    FitLog,
    FitOptions,
    Scores,
    State,
    Supervision,
)


class Unlearned(Detector[ConfigT]):
    """A detector whose scores depend on its settings and the video alone."""

    supervision: ClassVar[Supervision] = Supervision.NORMAL_ONLY
    train_options: ClassVar[frozenset[str]] = frozenset()

    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Learn nothing.

        Raises:
            DetectorError: there are no training videos.
        """
        if not len(source):
            raise DetectorError("there are no training videos")
        return FitLog(summary={"videos": len(source)})

    def draws(self, source: BagSource) -> bool:
        """Tell that nothing is drawn at random."""
        return False

    def held_out_scores(self, source: BagSource, *, seed: int) -> list[Scores] | None:
        """Score the training videos: nothing was learned from them."""
        return [self.score(bag) for bag in source]

    def state_dict(self) -> State:
        """Return nothing but a mark that this is a model."""
        return {"fitted": np.ones(1, np.uint8)}

    def load_state_dict(self, state: State) -> None:
        """Do nothing: there is no state."""
