"""In-painter `patch_mix`: another part of the same picture is mixed in. It needs no weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..base import Runtime
from ..draws import Draws
from .contract import InPainter


class PatchMix(InPainter):
    """Half the picture itself, half the picture moved by a quarter of its sides or more.

    What is moved out on one side comes in on the other. The within-frame form of LNTRA's
    MixUp-patch, as in the perturbation of that name, for masks of any shape.
    """

    def load(self, runtime: Runtime) -> None:
        """Do nothing: there is no network."""

    def fill(
        self, frames: NDArray[np.uint8], masks: NDArray[np.bool_], draws: Sequence[Draws]
    ) -> NDArray[np.uint8]:
        """Mix pictures with themselves."""
        moved = [_moved(frame, draw) for frame, draw in zip(frames, draws, strict=True)]
        mean = (frames.astype(np.uint16) + np.stack(moved) + 1) // 2
        return mean.astype(np.uint8)


def _moved(frame: NDArray[np.uint8], draws: Draws) -> NDArray[np.uint8]:
    steps = [draws.between(side // 4, side - side // 4) for side in frame.shape[:2]]
    return np.roll(frame, steps, axis=(0, 1))
