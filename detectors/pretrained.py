"""Pretrained weights as the start of named parts of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .base import DetectorError

LISTED = 10  # keys named in an error

Arrays = Mapping[str, Tensor | NDArray[np.generic]]


@dataclass(frozen=True)
class Unmatched:
    """Keys that `load_state` did not use.

    Attributes:
        missing: keys of the network without an array.
        unexpected: keys of the arrays that the network does not have.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()


def load_state(module: nn.Module, parts: Mapping[str, Arrays], *, strict: bool = True) -> Unmatched:
    """Copy arrays into named parts of a module; nothing is copied if anything is wrong.

    Args:
        module:
            The whole network.
        parts:
            Path of a submodule ("encoder", "heads.continuity"; "" is the whole) -> its state.
        strict:
            False accepts missing and unexpected keys as long as each part has one that fits.

    Returns:
        The keys that strict would have refused, with the path of their part in front.

    Raises:
        DetectorError: there is no such part, keys are missing or unexpected, or a shape differs;
            the message names them.
    """
    chosen: list[tuple[Tensor, Tensor]] = []
    missing: list[str] = []
    unexpected: list[str] = []
    for path, arrays in parts.items():
        own = _part(module, path).state_dict()
        at = f"{path}." if path else ""
        lacking = [f"{at}{key}" for key in own if key not in arrays]
        strange = [f"{at}{key}" for key in arrays if key not in own]
        pairs = {key: (own[key], _tensor(arrays[key])) for key in own if key in arrays}
        if (strict and (lacking or strange)) or not pairs:
            raise DetectorError(
                f"these weights do not fit {path or 'the network'!r}: "
                f"{_named('missing', lacking)}; {_named('unexpected', strange)}"
            )
        wrong = [
            f"{at}{key} is {tuple(theirs.shape)} in place of {tuple(ours.shape)}"
            for key, (ours, theirs) in pairs.items()
            if ours.shape != theirs.shape
        ]
        if wrong:
            raise DetectorError(
                f"these weights do not fit {path or 'the network'!r}: {_named('shapes', wrong)}"
            )
        chosen += pairs.values()
        missing += lacking
        unexpected += strange
    with torch.no_grad():
        for ours, theirs in chosen:
            ours.copy_(theirs)
    return Unmatched(tuple(missing), tuple(unexpected))


def _part(module: nn.Module, path: str) -> nn.Module:
    try:
        return module.get_submodule(path)
    except AttributeError as error:
        parts = ", ".join(name for name, _ in module.named_children())
        raise DetectorError(f"the network has no part {path!r}; it has: {parts}") from error


def _tensor(values: Tensor | NDArray[np.generic]) -> Tensor:
    return values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))


def _named(what: str, keys: list[str]) -> str:
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return f"{what}: {', '.join(keys[:LISTED]) or 'none'}{more}"
