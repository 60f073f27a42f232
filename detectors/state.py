"""Arrays of a stored model, checked before a detector takes them.

A detector that keeps arrays as they are names their type and axes here. One that copies them into a
network needs nothing: loading a model compares what the detector has then with what was stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .base import DetectorError, State

if TYPE_CHECKING:  # checking the arrays of a model without a network takes no torch
    from torch import Tensor, nn


def stored_array(
    state: State, name: str, dtypes: str | tuple[str, ...], shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """One array of a stored model.

    Args:
        state:
            What was stored.
        name:
            Of the array.
        dtypes:
            The type that it has to have, or several.
        shape:
            Its axes; None is any length from 1 on.

    Raises:
        DetectorError: it is missing, or of another type or shape.
    """
    if name not in state:
        raise DetectorError(f"it lacks {name!r}")
    values = state[name]
    names = (dtypes,) if isinstance(dtypes, str) else dtypes
    fits = len(values.shape) == len(shape) and all(
        length > 0 if wanted is None else length == wanted
        for length, wanted in zip(values.shape, shape, strict=True)
    )
    if values.dtype.name not in names or not fits:
        axes = ", ".join("n" if length is None else str(length) for length in shape)
        raise DetectorError(
            f"{name!r} is {values.dtype} {values.shape}, not {' or '.join(names)} ({axes})"
        )
    return values


def network_arrays(network: nn.Module) -> State:
    """Weights and statistics of a network, each named `network.` and its own name."""
    values: dict[str, Tensor] = network.state_dict()
    return {f"network.{name}": value.cpu().numpy() for name, value in values.items()}


def load_network(network: nn.Module, state: State) -> None:
    """Put what `network_arrays` returned into a network; other arrays are left alone.

    Raises:
        RuntimeError: an array is missing, unknown, or of another shape.
    """
    from torch import from_numpy

    network.load_state_dict(
        {
            name.removeprefix("network."): from_numpy(np.array(value))
            for name, value in state.items()
            if name.startswith("network.")
        }
    )


def start_network(network: nn.Module, state: State) -> None:
    """Start a network from the weights and statistics of a fitted one; nothing to do without them.

    Raises:
        DetectorError: they are those of another network.
    """
    if not state:
        return
    try:
        load_network(network, state)
    except RuntimeError as error:
        raise DetectorError(
            f"the model to start from has another network, set what made it as it was there: "
            f"{' '.join(f'{error}'.split())[:300]}"
        ) from error


def check_state(stored: State, kept: State) -> None:
    """Compare what was stored with what a detector has after it took it.

    Raises:
        DetectorError: an array is missing, unknown, not finite, or of another type or shape.
    """
    if unknown := sorted(stored.keys() - kept.keys()):
        raise DetectorError(f"it has arrays that this detector does not: {', '.join(unknown[:5])}")
    for name, own in kept.items():
        own = np.asarray(own)
        values = stored_array(stored, name, own.dtype.name, own.shape)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise DetectorError(f"{name!r} has numbers that are not finite")
