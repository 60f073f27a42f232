"""Values measured during a fit, and the choice of the weights that the fit keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from .base import DetectorError, Row
from .randomness import private_random

Rule = Literal["min", "max"]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Values to measure after some of the steps.

    Attributes:
        measure: number of steps done -> named values. It is called with the module in evaluation
            mode, without gradients, in fp32, and with random generators of its own: a fit has
            the same weights after every step with and without a validation.
        every: number of steps between two measurements; the last step is always measured.
        best: name of the value that chooses the kept weights; None keeps the last weights.
        rule: whether the smallest or the largest value is best; of equal values the first.
    """

    measure: Callable[[int], Mapping[str, float]]
    every: int
    best: str | None = None
    rule: Rule = "min"

    def __post_init__(self) -> None:
        if self.every < 1:
            raise DetectorError(f"a validation every {self.every} steps: it has to be 1 or more")

    def due(self, done: int, steps: int) -> bool:
        """Return whether to measure when `done` of `steps` steps are done."""
        return done % self.every == 0 or done == steps

    def run(self, module: nn.Module, done: int, seed: int, device: torch.device) -> Row:
        """Measure, without a change of the module or of the random generators.

        Raises:
            DetectorError: the value that chooses the weights is missing or not finite.
        """
        modes = [(part, part.training) for part in module.modules()]
        module.eval()
        try:
            with private_random(device), torch.no_grad():
                torch.manual_seed(seed)
                values = {name: float(value) for name, value in self.measure(done).items()}
        finally:
            for part, training in modes:
                part.training = training
        if self.best is not None:
            if self.best not in values:
                raise DetectorError(
                    f"the kept weights are chosen by {self.best!r}, but the validation measures "
                    f"{', '.join(values) or 'nothing'}"
                )
            if not math.isfinite(values[self.best]):
                raise DetectorError(
                    f"the kept weights are chosen by {self.best!r}, which is {values[self.best]} "
                    f"after step {done}"
                )
        return dict(values)

    def better(self, value: float, than: Best | None) -> bool:
        """Return whether a value is better than the best one so far."""
        if than is None:
            return True
        return value < than.value if self.rule == "min" else value > than.value


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best weights so far.

    Attributes:
        step: number of steps that were done.
        value: the measured value.
        module: weights and statistics on the CPU.
    """

    step: int
    value: float
    module: dict[str, Any]

    @classmethod
    def of(cls, module: nn.Module, step: int, value: float) -> Best:
        """Copy the present weights."""
        state = {
            name: values.detach().to("cpu", copy=True)
            for name, values in module.state_dict().items()
        }
        return cls(step=step, value=value, module=state)
