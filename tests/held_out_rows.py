"""Held-out rows of drawn scores, one frame a row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from vadpipe.detectors.base import Scores
from vadpipe.pipeline.scores.events import Calibration
from vadpipe.pipeline.scores.held_out import HeldOut


def held_out_of(videos: Mapping[str, ArrayLike], fps: float | None = 1.0, step: int = 1) -> HeldOut:
    """Rows of `step` frames; `fps` None is what models of earlier versions keep."""
    scores = []
    for values in videos.values():
        each = np.asarray(values, np.float64)
        start = step * np.arange(len(each))
        scores.append(Scores(start, start + step, {"score": each}))
    rates = None if fps is None else dict.fromkeys(videos, fps)
    return HeldOut.from_scores(list(videos), scores, rates)


def calibration_of(held_out: HeldOut) -> Calibration:
    """The quantiles of the rows, as training takes them."""
    rows = [held_out.of_video(video).values("score") for video in held_out.videos]
    return Calibration.from_scores(rows, method="test")
