"""Pixels as tensors without a copy, also where numpy may only read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class _Alias:
    """The memory of an array, for numpy, as if it could be written."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self._array = array
        interface = array.__array_interface__
        self.__array_interface__: dict[str, Any] = {
            **interface,
            "data": (interface["data"][0], False),
        }


def tensor_of(pixels: NDArray[np.uint8]) -> Tensor:
    """A tensor over the memory of an array. It must not be written: frames may be shared.

    torch knows no read-only tensors and warns of read-only arrays.
    """
    return torch.from_numpy(pixels if pixels.flags.writeable else np.asarray(_Alias(pixels)))
