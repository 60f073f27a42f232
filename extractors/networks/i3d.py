"""The interface of the I3D networks, and the facts that are needed to use one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ExtractorError
from ..weights.cards import Arrays, LayoutError, Weights

CLASSES = 400  # of Kinetics


class I3d(nn.Module, ABC):
    """A video network whose features are the mean of its last map.

    Class attributes:
        norm_of: see `fold_batch_norms`.
    """

    norm_of: ClassVar[dict[str, str]]

    def forward(self, videos: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised -> (B, D) float32, the mean of the last map."""
        return self.last_map(videos).mean((2, 3, 4), dtype=torch.float32)

    @abstractmethod
    def last_map(self, videos: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised -> (B, D, T', H', W')."""

    @property
    @abstractmethod
    def classifier(self) -> nn.Linear | nn.Conv3d:
        """The layer after the mean; features are taken before it."""

    def classify(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., classes) logits, float32."""
        weight, bias = self.classifier.weight.flatten(1), self.classifier.bias
        assert bias is not None
        return functional.linear(features, weight.float(), bias.float())


@dataclass(frozen=True)
class Backbone:
    """A network, and the facts that are needed to use it.

    Attributes:
        name: name of the extractor that runs this network.
        build: makes the network.
        features: D, the width of a row.
        cards: weights that fit, the default first.
        min_frames: fewest frames of a clip.
        min_side: fewest pixels of height and width.
    """

    name: str
    build: Callable[[], I3d]
    features: int
    cards: tuple[Weights, ...]
    min_frames: int = 1
    min_side: int = 1

    def takes(self, frames: int, height: int, width: int) -> bool:
        """Tell whether a clip of this size leaves at least one position in the last map."""
        return frames >= self.min_frames and min(height, width) >= self.min_side

    def check(self, frames: int, height: int, width: int) -> None:
        """Refuse a clip that is too small for the network.

        Raises:
            ExtractorError: there are too few frames or pixels.
        """
        if not self.takes(frames, height, width):
            raise ExtractorError(
                f"{self.name} takes clips of {self.min_frames} frames and of "
                f"{self.min_side} x {self.min_side} pixels at least, not {frames} frames of "
                f"{height} x {width}"
            )

    def flops(self, frames: int, height: int, width: int) -> float:
        """Count multiply-adds times two of one clip; 0 for a clip that is too small."""
        if not self.takes(frames, height, width):
            return 0.0
        return count_flops(self.build, frames, height, width)


@lru_cache
def count_flops(build: Callable[[], I3d], frames: int, height: int, width: int) -> float:
    """Count multiply-adds times two of one clip through a network, on the meta device."""
    with torch.device("meta"):
        network = build().eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, 3, frames, height, width))
    return float(counter.get_total_flops())


def from_state_dict(arrays: Arrays, *names: str) -> dict[str, NDArray[Any]]:
    """Take a state dict with the network's own names, also if it was saved inside a dict.

    Args:
        arrays:
            The arrays of a file, from `read_arrays`.
        names:
            Some names that only this network has.

    Raises:
        LayoutError: one of the names is missing.
    """
    tensors = {key.rpartition("/")[2].removeprefix("module."): arrays[key] for key in arrays}
    for name in names:
        if name not in tensors:
            raise LayoutError(f"it has no {name!r}")
    return tensors
