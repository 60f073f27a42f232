"""Extractors `i3d_r50` and `i3d_r50_ptv`: 2048 features a clip from an I3D ResNet-50."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from .base import Config, Precision
from .i3d import I3DConfig, I3DFeatures
from .networks.i3d import Backbone
from .networks.i3d_r50 import BACKBONE, BACKBONE_PTV, CARDS, CARDS_PTV
from .weights.cards import ResolvedWeights
from .weights.slots import NETWORK, Slots


class I3DR50PtvConfig(I3DConfig):
    """Settings of `i3d_r50_ptv`: those of `I3DConfig`, by default ten crops of 224."""

    crops: Literal[1, 10] = 10  # RTFM and SSRL, public code (the papers do not say)
    crop_size: PositiveInt | None = 224


class I3DR50Config(I3DR50PtvConfig):
    """Settings of `i3d_r50`.

    Attributes:
        normalise: "card" takes mean and std of the weights; "minus_one_to_one" maps pixels to
            [-1, 1], as in an extractor that made many of the published features.
    """

    normalise: Literal["card", "minus_one_to_one"] = "card"


class I3DR50Features(I3DFeatures):
    """The mean of the last map of I3D ResNet-50, caffe2 variant: (crops, 2048) for each clip."""

    name: ClassVar[str] = "i3d_r50"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = I3DR50Config
    networks: ClassVar[Slots] = {NETWORK: CARDS}
    backbone: ClassVar[Backbone] = BACKBONE
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "native": {"resize": None, "crops": 1, "crop_size": None},
        # validation in Tushar-N/pytorch-resnet3d
        "tushar_n": {"crops": 1, "crop_size": 256},
        # GowthamGottimukkala/I3D_Feature_Extraction_resnet, except for the order of the crops
        "gowtham": {"resize": (256, 340), "tail": "drop", "normalise": "minus_one_to_one"},
    }

    def __init__(
        self,
        config: I3DR50Config,
        *,
        weights: Mapping[str, ResolvedWeights] | None = None,
        precision: Precision = "fp32",
    ) -> None:
        if weights is not None and config.normalise == "minus_one_to_one":
            half = (127.5, 127.5, 127.5)
            weights = {
                slot: replace(each, card=replace(each.card, mean=half, std=half))
                for slot, each in weights.items()
            }
        super().__init__(config, weights=weights, precision=precision)


class I3DR50PtvFeatures(I3DFeatures):
    """The mean of the last map of I3D ResNet-50, pytorchvideo's variant: (crops, 2048) a clip."""

    name: ClassVar[str] = "i3d_r50_ptv"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = I3DR50PtvConfig
    networks: ClassVar[Slots] = {NETWORK: CARDS_PTV}
    backbone: ClassVar[Backbone] = BACKBONE_PTV
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "native": {"resize": None, "crops": 1, "crop_size": None},
        # the clips of the model zoo, but with consecutive frames
        "pytorchvideo": {"clip_length": 8, "stride": 8, "crops": 1, "crop_size": 256},
    }
