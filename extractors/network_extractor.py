"""The base of all extractors that run a network: loading, and one turn on the device per batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor, nn

from .base import ConfigT, Extractor, Runtime
from .clips import Clip
from .device.inference import VideoNetwork, load_video_network
from .device.micro_batch import is_out_of_memory
from .errors import ExtractorError


class NetworkExtractor(Extractor[ConfigT]):
    """An extractor that runs one network."""

    _network: VideoNetwork | None = None

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the network without its weights: (B, 3, T, H, W) normalised -> (B, D) float32."""

    @abstractmethod
    def rows(self, network: VideoNetwork, videos: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the rows of clips (T, H, W, 3) uint8 on the device; runs in the device's lane."""

    def load(self, runtime: Runtime) -> None:
        """Put the network on the device.

        Raises:
            WeightsError: the weights are damaged.
        """
        assert self.weights is not None  # the base class has checked
        self._network = load_video_network(self.build, self.weights, self.precision, runtime)

    def extract(self, clips: Sequence[Clip]) -> dict[str, NDArray[Any] | pa.Table]:
        """Compute the rows of a batch of clips, float32.

        Raises:
            ExtractorError: `load` was not called, or the network refuses the clips.
        """
        network = self._network
        if network is None:
            raise ExtractorError(f"{self.name}: call load(runtime) first")
        try:
            return self._batch(network, clips)
        except (RuntimeError, MemoryError) as error:
            if len(clips) < 2 or not is_out_of_memory(error):
                raise
        # The network halves its own batches. Here the pictures themselves took too much memory.
        middle = len(clips) // 2
        parts = [self.extract(clips[:middle]), self.extract(clips[middle:])]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _batch(
        self, network: VideoNetwork, clips: Sequence[Clip]
    ) -> dict[str, NDArray[Any] | pa.Table]:
        videos = network.stage([clip.frames for clip in clips])

        def work() -> dict[str, NDArray[Any] | pa.Table]:
            rows = self.rows(network, videos)
            return {name: values.cpu().numpy() for name, values in rows.items()}

        return network.turn(work)

    def recipe(self) -> dict[str, Any]:
        """Add to the recipe what happens to the pixels."""
        assert self.weights is not None
        card = self.weights.card
        pixels = {
            "colour": "RGB",
            "resize": f"{card.extra.get('interpolation', 'bilinear')}, antialias, uint8",
            "mean": list(card.mean),
            "std": list(card.std),
        }
        if "short_side" in card.extra:
            pixels["short_side"] = card.extra["short_side"]
        return {**super().recipe(), "pixels": pixels}
