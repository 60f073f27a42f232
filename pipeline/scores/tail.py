"""The tail of normal scores: peaks over threshold, for rates that footage itself cannot show.

The excesses of independent peaks over a high level tend to a generalised Pareto distribution
(Pickands 1975; Coles 2001, An Introduction to Statistical Modeling of Extreme Values, Ch. 4).
Neighbouring frames are not independent, so the peaks are those of events: runs of frames that are
close count once (declustering, Coles Sect. 5.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import genpareto

from .events import EventError

LEAST_PEAKS = 10  # below this, a shape and a scale cannot be told apart from chance
FEW_PEAKS = 30
SHAPES = (-0.5, 1.0)  # maximum likelihood is regular above -0.5; from 1 on there is no mean
MORE_PEAKS = "hold back more normal footage, or take a lower release quantile"


@dataclass(frozen=True)
class Tail:
    """A generalised Pareto distribution of the peaks of events above a level.

    Attributes:
        level: raw score above which peaks are counted.
        rate: peaks per day.
        shape: 0 is an exponential tail; below 0 scores have a largest value.
        scale: of the excess over the level, in units of the score.
        peaks: how many it rests on.
    """

    level: float
    rate: float
    shape: float
    scale: float
    peaks: int

    @classmethod
    def fit(cls, peaks: NDArray[np.float64], level: float, days: float) -> Tail:
        """Fit by maximum likelihood.

        Args:
            peaks:
                (n,) the highest score of each event at the level.
            level:
                Raw score; all peaks are above.
            days:
                Footage that they come from.

        Raises:
            EventError: there are too few peaks, they are all equal, or no tail of a regular shape
                describes them.
        """
        excess = np.sort(peaks) - level
        if len(excess) < LEAST_PEAKS:
            raise EventError(
                f"a tail needs {LEAST_PEAKS} events of normal footage at the lower level "
                f"({level:.6g}), there are {len(excess)}: {MORE_PEAKS}"
            )
        unit = float(excess.mean())
        if excess[0] == excess[-1] or not unit > 0:
            raise EventError(
                f"all {len(excess)} peaks above {level:.6g} are equal, so there is no tail: name a "
                "quantile or a value"
            )
        shape, _, scale = genpareto.fit(excess / unit, floc=0)
        ends = genpareto.logpdf(excess[-1] / unit, shape, scale=scale)
        if not (SHAPES[0] <= shape < SHAPES[1] and scale > 0 and math.isfinite(ends)):
            raise EventError(
                f"the peaks of normal footage have a tail of shape {shape:.2f}, and none from "
                f"{SHAPES[0]:g} to {SHAPES[1]:g}: rare rates cannot be derived from them; take a "
                "budget"
            )
        return cls(level, len(excess) / days, float(shape), float(scale * unit), len(excess))

    def threshold(self, rate: float) -> float:
        """The raw score that peaks exceed at this rate per day.

        Raises:
            EventError: the footage itself shows this rate: it lies below the level.
        """
        if rate >= self.rate:
            raise EventError(
                f"normal footage has {self.rate:.3g} events a day at the lower level already, so "
                f"{rate:g} a day are not extreme: take --budget {rate:g}"
            )
        return self.level + float(genpareto.isf(rate / self.rate, self.shape, scale=self.scale))

    def rate_above(self, value: float) -> float:
        """How often peaks exceed a raw score at or above the level, per day."""
        return self.rate * float(genpareto.sf(value - self.level, self.shape, scale=self.scale))
