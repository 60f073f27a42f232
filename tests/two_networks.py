"""A test extractor with two tiny networks: one reads clips, its teacher can be switched off."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from vadpipe.extractors.base import ArraySpec, Config
from vadpipe.extractors.clips import ClipRule
from vadpipe.extractors.network_extractor import NetworksExtractor
from vadpipe.extractors.weights.cards import Weights
from vadpipe.extractors.weights.slots import Slots
from vadpipe.pipeline.registry import EXTRACTORS

NAME = "two_networks"


def card(name: str, mean: float) -> Weights:
    """A card without a source; pixels are normalised by this mean."""
    facts = {"layout": "test", "licence": "none", "origin": "random numbers"}
    return Weights(
        name, f"{name}.pt", None, (), **facts, mean=(mean, mean, mean), std=(64.0, 64.0, 64.0)
    )


READERS = (card("reader.first", 120.0), card("reader.second", 100.0))
TEACHERS = (card("teacher.only", 128.0),)
WIDTHS = {"reader": 5, "teacher": 3}


class Tiny(nn.Module):
    """A convolution and its mean over time and space."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, width, (1, 3, 3))

    def forward(self, videos: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, width) float32."""
        maps: Tensor = self.conv(videos)
        return maps.relu().mean(dim=(2, 3, 4), dtype=torch.float32)


class TwoNetworksConfig(Config):
    """Settings of the test extractor."""

    teacher: bool = True
    dtype: str = "float32"


class TwoNetworks(NetworksExtractor[TwoNetworksConfig]):
    """One row of each network a clip."""

    name: ClassVar[str] = NAME
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = TwoNetworksConfig
    networks: ClassVar[Slots] = {"reader": READERS, "teacher": TEACHERS}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"alone": {"teacher": False}}

    @classmethod
    def networks_for(cls, config: TwoNetworksConfig) -> Slots:
        """Without the teacher where it is switched off."""
        return cls.networks if config.teacher else {"reader": READERS}

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """One array for each network; detectors take that of the reader."""
        dims, roles = ("snippet", "feature"), {"reader": "snippet"}
        return tuple(
            ArraySpec(slot, self.config.dtype, dims, (WIDTHS[slot],), role=roles.get(slot))
            for slot in self.networks_for(self.config)
        )

    @property
    def clip_rule(self) -> ClipRule:
        """Clips without context."""
        return ClipRule(4, 4)

    def build_network(self, slot: str) -> nn.Module:
        """A network of the slot's width."""
        return Tiny(WIDTHS[slot])

    def rows_of(self, networks: Mapping[str, Any], videos: Sequence[Tensor]) -> dict[str, Tensor]:
        """(n, width) of each."""
        clips = torch.stack(list(videos))
        return {slot: network.features(clips) for slot, network in networks.items()}


def register(patch: pytest.MonkeyPatch) -> None:
    """Make it known by its name, as if its file lay among the extractors."""
    place = "two_networks"
    patch.setitem(sys.modules, f"vadpipe.extractors.{place}", sys.modules[__name__])
    patch.setitem(EXTRACTORS._places, NAME, f"{place}:TwoNetworks")
