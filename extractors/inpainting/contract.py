"""The contract of in-painters: pictures with masks -> pictures that are filled there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..base import Runtime
from ..draws import Draws
from ..errors import ExtractorError


class InPaintingError(ExtractorError):
    """An in-painter returned something else than pictures of the size it was given."""


class InPainter(ABC):
    """Fills the masked part of pictures. One picture never changes another."""

    @abstractmethod
    def load(self, runtime: Runtime) -> None:
        """Get ready on a device.

        Raises:
            WeightsError: the weights are damaged.
            MissingExtra: an optional package is not installed.
        """

    @abstractmethod
    def fill(
        self, frames: NDArray[np.uint8], masks: NDArray[np.bool_], draws: Sequence[Draws]
    ) -> NDArray[np.uint8]:
        """Fill pictures.

        Args:
            frames:
                (n, H, W, 3) uint8 RGB.
            masks:
                (n, H, W), True where a picture is to be filled; each has such a place.
            draws:
                Random numbers for each picture.

        Returns:
            (n, H, W, 3) uint8; what lies outside of the masks does not matter.
        """


def painted(
    painter: InPainter,
    frames: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    draws: Sequence[Draws],
) -> NDArray[np.uint8]:
    """Fill pictures, and keep every pixel outside of the masks bit by bit.

    Raises:
        InPaintingError: the in-painter returned another shape or type.
    """
    # copies: what it does to its arguments must not reach the pixels outside
    filled = painter.fill(frames.copy(), masks.copy(), draws)
    name = type(painter).__name__
    if not isinstance(filled, np.ndarray):
        raise InPaintingError(f"{name} returned {type(filled).__name__}, not an array of pictures")
    if filled.shape != frames.shape or filled.dtype != np.uint8:
        raise InPaintingError(
            f"{name} returned {filled.dtype} {filled.shape} for uint8 {frames.shape}: an "
            "in-painter returns pictures of the size that it is given"
        )
    return np.where(masks[..., None], filled, frames)
