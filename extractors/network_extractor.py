"""The bases of all extractors that run networks: loading, and one turn on the device per batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from .base import ConfigT, Extractor, Rows, Runtime, one_row_each
from .clips import Clip
from .device.inference import OnDevice, VideoNetwork, load_video_network
from .device.micro_batch import is_out_of_memory
from .errors import ExtractorError
from .weights.cards import Weights
from .weights.slots import NETWORK


class NetworksExtractor(Extractor[ConfigT]):
    """An extractor that runs several networks; all take turns in the lane of one device."""

    _place: OnDevice | None = None
    _loaded: Mapping[str, Any] = {}

    @abstractmethod
    def build_network(self, slot: str) -> nn.Module:
        """Build the network of a slot without its weights: (B, 3, T, H, W) normalised -> (B, D)."""

    def load_network(self, slot: str, runtime: Runtime) -> Any:
        """Put the network of a slot on the device: a `VideoNetwork`.

        A subclass whose network is no torch module, or takes no videos, returns something else
        here; `rows_of` receives it, and calls it in the lane of the device.

        Raises:
            WeightsError: the weights are damaged.
        """
        build = partial(self.build_network, slot)
        return load_video_network(build, self.weights[slot], self.precision, runtime)

    @abstractmethod
    def rows_of(self, networks: Mapping[str, Any], videos: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the rows of clips (T, H, W, 3) uint8 on the device; runs in the device's lane.

        Args:
            networks:
                Slot -> what `load_network` returned; an absent slot is not in it.
            videos:
                The clips.
        """

    def load(self, runtime: Runtime) -> None:
        """Put the networks on the device.

        Raises:
            WeightsError: the weights are damaged.
        """
        self._loaded = {slot: self.load_network(slot, runtime) for slot in self.weights}
        self._place = OnDevice(runtime)

    def extract(self, clips: Sequence[Clip]) -> dict[str, Rows]:
        """Compute the rows of a batch of clips, one a clip, float32.

        Raises:
            ExtractorError: `load` was not called, or a network refuses the clips.
        """
        arrays = self._arrays(clips)
        axes = dict.fromkeys(spec.axis for spec in self.arrays)
        return {
            axis: one_row_each(
                clips, {spec.name: arrays[spec.name] for spec in self.arrays if spec.axis == axis}
            )
            for axis in axes
        }

    def _arrays(self, clips: Sequence[Clip]) -> dict[str, NDArray[Any]]:
        place = self._place
        if place is None:
            raise ExtractorError(f"{self.name}: call load(runtime) first")
        try:
            return self._batch(place, clips)
        except (RuntimeError, MemoryError) as error:
            if len(clips) < 2 or not is_out_of_memory(error):
                raise
        # A network halves its own batches. Here the pictures themselves took too much memory.
        middle = len(clips) // 2
        parts = [self._arrays(clips[:middle]), self._arrays(clips[middle:])]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _batch(self, place: OnDevice, clips: Sequence[Clip]) -> dict[str, NDArray[Any]]:
        videos = place.stage([clip.frames for clip in clips])

        def work() -> dict[str, NDArray[Any]]:
            rows = self.rows_of(self._loaded, videos)
            return {name: values.cpu().numpy() for name, values in rows.items()}

        return place.turn(work)

    def recipe(self) -> dict[str, Any]:
        """Add to the recipe what happens to the pixels of each network."""
        pixels = {slot: _pixels(each.card) for slot, each in self.weights.items()}
        return {**super().recipe(), "pixels": pixels}


class NetworkExtractor(NetworksExtractor[ConfigT]):
    """An extractor that runs one network, in the slot "network"."""

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the network without its weights: (B, 3, T, H, W) normalised -> (B, D) float32."""

    @abstractmethod
    def rows(self, network: VideoNetwork, videos: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the rows of clips (T, H, W, 3) uint8 on the device; runs in the device's lane."""

    def build_network(self, slot: str) -> nn.Module:
        """Build the only network."""
        return self.build()

    def rows_of(self, networks: Mapping[str, Any], videos: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the rows of clips, see `rows`."""
        return self.rows(networks[NETWORK], videos)

    @property
    def card(self) -> Weights:
        """Return the card of the weights."""
        return self.weights[NETWORK].card

    def recipe(self) -> dict[str, Any]:
        """Add to the recipe what happens to the pixels."""
        return {**super().recipe(), "pixels": _pixels(self.card)}


def _pixels(card: Weights) -> dict[str, Any]:
    pixels = {
        "colour": "RGB",
        "resize": f"{card.extra.get('interpolation', 'bilinear')}, antialias, uint8",
        "mean": list(card.mean),
        "std": list(card.std),
    }
    if "short_side" in card.extra:
        pixels["short_side"] = card.extra["short_side"]
    return pixels
