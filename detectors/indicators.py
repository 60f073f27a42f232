"""The three indicators of the pseudo-anomaly system and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from .reconstruction import min_max

Part = Literal["spatial", "temporal", "semantic"]
Preset = Literal["ucsd_ped2", "avenue", "shanghaitech", "ubnormal"]
Eta = tuple[float, float, float]
Norm = Literal["minmax", "literal"]
Floats = NDArray[np.float64]

PARTS: tuple[Part, ...] = ("spatial", "temporal", "semantic")
COLUMNS: dict[Part, str] = {"spatial": "omega_1", "temporal": "omega_2", "semantic": "omega_3"}
ETA: dict[Preset, Eta] = {  # supplement, Sect. 3
    "ucsd_ped2": (0.65, 0.25, 0.10),
    "avenue": (0.45, 0.50, 0.05),
    "shanghaitech": (0.85, 0.13, 0.02),
    "ubnormal": (0.40, 0.50, 0.10),
}
SMALLEST_SPREAD = 1e-9
SMALLEST_SHARE = 1e-3  # of the mean: an indicator that varies less over normal footage is constant


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of an indicator over normal footage."""

    mean: float
    spread: float

    @classmethod
    def of(cls, values: Floats) -> Scale:
        """The scale of raw values; the spread is no smaller than a thousandth of the mean."""
        mean = float(values.mean())
        least = max(SMALLEST_SHARE * abs(mean), SMALLEST_SPREAD)
        return cls(mean, max(float(values.std()), least))

    @property
    def constant(self) -> bool:
        """Whether the raw values hardly varied, so that the scale says little."""
        return self.spread <= max(SMALLEST_SHARE * abs(self.mean), SMALLEST_SPREAD)

    def standard(self, values: Floats) -> Floats:
        """Scale raw values to mean 0 and standard deviation 1 of normal footage."""
        return (values - self.mean) / self.spread


def combined(
    raw: Mapping[Part, Floats], eta: Mapping[Part, float], scales: Mapping[Part, Scale]
) -> Floats:
    """The sum of indicators that is comparable across videos.

    Args:
        raw:
            (n,) values of each part: -PSNR in dB, squared error of flow, logit of the probability.
            Probabilities of normal footage may all be nearly 0: a standard deviation of them would
            make the discriminator outweigh everything else.
        eta:
            Weight of each part.
        scales:
            Of each part.
    """
    return np.asarray(sum(eta[part] * scales[part].standard(raw[part]) for part in raw), np.float64)


def as_published(raw: Mapping[Part, Floats], eta: Mapping[Part, float], norm: Norm) -> Floats:
    """The paper's score of one video (eq. 2 to 4).

    Args:
        raw:
            (n,) raw values of each part, of all scored frames of the video: -PSNR in dB, squared
            error of flow, probability.
        eta:
            Weight of each part; what is left out is not made up for by the others.
        norm:
            "literal" takes the error of flow as it is (eq. 3); "minmax" scales it by its extremes
            in the video, as eq. 2 does with PSNR.
    """
    total = np.zeros(len(next(iter(raw.values()))))
    for part, values in raw.items():
        # min-max of -PSNR is 1 - (P - min) / (max - min)
        scaled = part == "spatial" or (part == "temporal" and norm == "minmax")
        total += eta[part] * (min_max(values) if scaled else values)
    return total


def learnt_eta(normal: Floats, pseudo: Floats) -> Floats:
    """Learn weights that tell pseudo-anomalies from normal footage.

    A logistic regression with weights of 0 or more, on indicators with mean 0 and standard
    deviation 1 of normal footage. Both classes count the same.

    Args:
        normal:
            (n, parts).
        pseudo:
            (m, parts).

    Returns:
        (parts,) weights with the sum 1; all 0 if no indicator is higher for pseudo-anomalies.
    """
    parts = normal.shape[1]
    values = np.concatenate([normal, pseudo])
    label = np.concatenate([-np.ones(len(normal)), np.ones(len(pseudo))])
    share = np.concatenate(
        [np.full(len(normal), 0.5 / len(normal)), np.full(len(pseudo), 0.5 / len(pseudo))]
    )

    def loss(weights: Floats) -> tuple[float, Floats]:
        margin = label * (values @ weights[:-1] + weights[-1])
        slope = -share * label / (1 + np.exp(np.clip(margin, -50, 50)))
        value = float((share * np.logaddexp(0, -margin)).sum()) + 1e-4 * float(weights @ weights)
        gradient = np.append(slope @ values, slope.sum()) + 2e-4 * weights
        return value, gradient

    bounds: Sequence[tuple[float | None, float | None]] = [(0.0, None)] * parts + [(None, None)]
    found = minimize(loss, np.zeros(parts + 1), jac=True, bounds=bounds, method="L-BFGS-B")
    weights = np.asarray(found.x[:-1], np.float64)
    total = weights.sum()
    return weights / total if total > 1e-6 else np.zeros(parts)
