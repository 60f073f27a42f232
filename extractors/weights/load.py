"""Load the arrays of a network from converted weights, or draw random ones."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .cards import COUNTER, ResolvedWeights, WeightsError
from .kept import read_converted, seed_in


class HasShape(Protocol):
    """An array, or a tensor on any device, of which only the shape matters."""

    @property
    def shape(self) -> Sequence[int]:
        """Sizes of all axes."""
        ...


def load_tensors(
    weights: ResolvedWeights, reference: Mapping[str, HasShape]
) -> dict[str, NDArray[Any]]:
    """Load the arrays of a network, by its own key names.

    Args:
        weights:
            The result of `resolve`.
        reference:
            The network's `state_dict`, also on the meta device. Keys and shapes must be equal. Only
            the counters of batch norm may be missing in a file; they become 0.

    Returns:
        One array for every key; parameters and running statistics are float32.

    Raises:
        WeightsError: the file is damaged or belongs to another network.
    """
    shapes = {name: tuple(value.shape) for name, value in reference.items()}
    counters = [name for name in shapes if name.endswith(COUNTER)]
    wanted = {name: shape for name, shape in shapes.items() if name not in counters}
    if weights.path is None:
        warnings.warn(
            f"{weights.card.name}: {weights.identity} are not trained weights: use their "
            "features for tests only",
            stacklevel=2,
        )
        seed = seed_in(weights.identity)
        tensors = {name: _random(seed, name, shape) for name, shape in wanted.items()}
    else:
        tensors, record = read_converted(weights.path)
        if record["source_sha256"] != weights.identity:
            raise WeightsError(
                f"{weights.path} was made from another file than the requested one (sha256 "
                f"{record['source_sha256']}, not {weights.identity}): delete it, and fetch it again"
            )
        missing, extra = sorted(wanted.keys() - tensors), sorted(tensors.keys() - wanted)
        shaped = [
            f"{name} is {tensors[name].shape}, the network has {shape}"
            for name, shape in wanted.items()
            if name in tensors and tensors[name].shape != shape
        ]
        if missing or extra or shaped:
            raise WeightsError(
                f"{weights.path} does not belong to this network: "
                f"{_some('lacks', missing)}{_some('has also', extra)}{_some('shapes:', shaped)}"
            )
        if bad := [name for name in wanted if not _is_possible(name, tensors[name])]:
            raise WeightsError(
                f"{weights.card.name}: {_some('numbers that no training leaves:', bad)}Some are "
                "not finite, or a variance is negative. The file is damaged, or of another layout: "
                "fetch it again"
            )
    return {**tensors, **{name: np.zeros((), np.int64) for name in counters}}


def _is_possible(name: str, values: NDArray[Any]) -> bool:
    """Whether values are finite, and variances not negative: else a network returns no numbers."""
    if values.dtype.kind != "f":
        return True
    least = 0.0 if name.endswith("running_var") else -np.inf
    return bool(np.isfinite(values).all()) and bool((values >= least).all())


def _some(title: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{title} {', '.join(names[:3])}{more}. " if names else ""


def _random(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw the values of one parameter: He-scaled weights, and norm layers near the identity.

    Every name has its own stream of raw bits. numpy keeps raw bits stable between versions, but not
    its distributions. So the values depend on seed, name and shape only.
    """
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), "<u4")
    bits = np.random.PCG64([seed, *words.tolist()]).random_raw(int(np.prod(shape)))
    unit = ((np.asarray(bits, np.uint64) >> np.uint64(40)) * 2.0**-24).reshape(shape)  # [0, 1)
    spread = np.sqrt(12.0) * (unit - 0.5)  # mean 0, variance 1
    kind = name.rpartition(".")[2]
    if kind == "running_var":
        values = 0.5 + unit
    elif kind == "running_mean":
        values = 0.1 * spread
    elif len(shape) > 1:
        values = spread * np.sqrt(2.0 / np.prod(shape[1:]))
    elif kind == "weight":
        values = 1.0 + 0.1 * spread
    else:
        values = 0.05 * spread
    return values.astype(np.float32)
