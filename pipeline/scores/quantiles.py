"""Raw scores as quantiles of held-out normal scores: one scale for all detectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .held_out import HeldOutError

LARGEST = float(np.nextafter(1.0, 0.0))  # the number next to 1


class QuantileMap:
    """Maps a raw score to its place among n held-out normal scores, a number inside (0, 1).

    Up to the largest held-out score only the order counts: a score that has b held-out scores below
    it and u at most as large maps to (b + u + 1) / (2 (n + 1)). So the k-th smallest maps to
    k / (n + 1), ties to the mean of their ranks, and a score between two neighbours to the middle
    of their step.

    A score s above the largest, m, maps to 1 - h / (1 + (s - m) / spread), with h = 1 / (2 (n + 1))
    and a spread of m minus the median (m minus the smallest if that is 0, else 1). It rises
    from the middle of the last step, and stays below 1: held-out scores cannot tell how rare it is,
    so its size only orders it within half a step. Where 1 is too near for another number between,
    it maps to the largest number below 1.

    Args:
        held_out:
            (n,) raw scores of normal videos that training did not see, in any order.

    Raises:
        HeldOutError: there is no score, or one is not finite.
    """

    def __init__(self, held_out: ArrayLike) -> None:
        self._scores = np.sort(np.asarray(held_out, dtype=np.float64).ravel())
        if not len(self._scores) or not np.isfinite(self._scores).all():
            raise HeldOutError("a quantile needs finite held-out scores: train the model again")
        self._largest = self._scores[-1]
        with np.errstate(over="ignore"):  # an infinite spread leaves all in the middle of a step
            below = (self._largest - np.median(self._scores), self._largest - self._scores[0], 1.0)
        self._spread = next(float(span) for span in below if span > 0)

    def __call__(self, scores: ArrayLike) -> NDArray[np.float64]:
        """The quantiles of raw scores, of the same shape."""
        values = np.asarray(scores, dtype=np.float64)
        below = np.searchsorted(self._scores, values, side="left")
        up_to = np.searchsorted(self._scores, values, side="right")
        step = 1.0 / (len(self._scores) + 1)
        quantiles = (below + up_to + 1) * (step / 2)
        with np.errstate(over="ignore"):  # an excess may be infinite: its quantile is the largest
            excess = np.maximum(values - self._largest, 0.0) / self._spread
        above = np.minimum(1.0 - step / 2 / (1.0 + excess), LARGEST)
        return np.asarray(np.where(values > self._largest, above, quantiles), np.float64)
