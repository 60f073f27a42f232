"""Extractor `inception_i3d`: 1024 features a clip from Inception-I3D."""

from __future__ import annotations

from typing import Any, ClassVar

from .i3d import I3DFeatures
from .networks.i3d import Backbone
from .networks.inception_i3d import BACKBONE, CARDS
from .weights.slots import NETWORK, Slots


class InceptionI3DFeatures(I3DFeatures):
    """The mean of Inception-I3D's last map: (crops, 1024) a clip.

    The default is one crop, the whole frame, so that no event at the border of a surveillance
    picture is cut away (our reading). The Kinetics protocol is the preset `kinetics`.
    """

    name: ClassVar[str] = "inception_i3d"
    version: ClassVar[int] = 1
    networks: ClassVar[Slots] = {NETWORK: CARDS}
    backbone: ClassVar[Backbone] = BACKBONE
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "native": {"resize": None},
        "kinetics": {"resize": 256, "crop_size": 224},
    }
