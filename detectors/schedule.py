"""Learning rates over the steps of a fit: a linear warm-up, then constant or a half cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .base import DetectorError

ScheduleName = Literal["constant", "cosine"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Factor of the learning rates of an optimizer at every step.

    Attributes:
        name: "constant", or "cosine": after the warm-up from 1 down to 0 along half a cosine
            (Loshchilov and Hutter 2017, eq. 5 without restarts).
        warmup: steps; the rate rises linearly to its full value, which the last of them has.
    """

    name: ScheduleName = "constant"
    warmup: int = 0

    def check(self, steps: int, name: str) -> None:
        """Refuse a warm-up that takes all steps.

        Args:
            steps:
                Of the fit.
            name:
                Of the fit, for the message.

        Raises:
            DetectorError: the full rate would never be used.
        """
        if not 0 <= self.warmup < max(steps, 1):
            raise DetectorError(
                f"{name}: a warm-up of {self.warmup} steps does not end within {steps} steps"
            )

    def factor(self, step: int, steps: int) -> float:
        """Compute the factor of a step, counted from 0, of `steps`.

        A cosine reaches 0 one step after the last, as torch's CosineAnnealingLR does with
        T_max = steps.
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.name == "constant":
            return 1.0
        progress = (step - self.warmup) / (steps - self.warmup)
        return 0.5 * (1.0 + math.cos(math.pi * progress))
