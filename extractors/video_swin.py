"""Extractor `video_swin`: 768 or 1024 features a clip from a Video Swin transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from .base import Config, Precision
from .i3d import I3DConfig, I3DFeatures
from .networks.i3d import Backbone
from .networks.video_swin import BACKBONES, Variant
from .weights.cards import ResolvedWeights
from .weights.slots import NETWORK, Slots


class VideoSwinConfig(I3DConfig):
    """Settings of `video_swin`: those of `I3DConfig`, by default one centre crop of 224.

    Attributes:
        variant: which of the networks; it decides which weights fit.
    """

    crops: Literal[1, 10] = 1
    crop_size: PositiveInt | None = 224  # windows of 7 x 7 fit into it without padding
    variant: Variant = "tiny"  # SSRL, Table 2


class VideoSwinFeatures(I3DFeatures):
    """The mean of the last map of a Video Swin transformer: (crops, D) for each clip."""

    name: ClassVar[str] = "video_swin"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = VideoSwinConfig
    networks: ClassVar[Slots] = {NETWORK: tuple(c for b in BACKBONES.values() for c in b.cards)}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "native": {"resize": None, "crop_size": None},
        # the clips of the published weights, but with consecutive frames
        "kinetics": {"clip_length": 32, "stride": 32},
        "ten_crop": {"crops": 10},  # as the other features of SSRL and RTFM
    }

    def __init__(
        self,
        config: VideoSwinConfig,
        *,
        weights: Mapping[str, ResolvedWeights] | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self._variant = config.variant
        super().__init__(config, weights=weights, precision=precision)

    @property
    def backbone(self) -> Backbone:  # type: ignore[override]  # it depends on the settings
        """The network of the variant."""
        return BACKBONES[self._variant]

    @classmethod
    def networks_for(cls, config: VideoSwinConfig) -> Slots:  # type: ignore[override]
        """Return the cards of the variant."""
        return {NETWORK: BACKBONES[config.variant].cards}
