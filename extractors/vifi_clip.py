"""Extractor `vifi_clip`: 512 features a frame from CLIP ViT-B/16 or ViFi-CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from .base import ArraySpec, Config
from .clips import ClipRule
from .device.inference import VideoNetwork, resized
from .device.resize import Size, short_side
from .footage.resizing import Resize
from .network_extractor import NetworkExtractor
from .networks.clip_vit import CARDS, FEATURES, SIDE, ClipTower, frame_flops
from .weights.slots import NETWORK, Slots


class ViFiClipConfig(Config):
    """Settings of `vifi_clip`.

    Attributes:
        mode: "center_crop" is the test pipeline of the weights: short side 256, bilinear
            (ViFi-CLIP), or 224, bicubic (OpenAI); then the middle 224 x 224. "squash" resizes the
            whole frame to 224 x 224. Surveillance frames are wide: of 856 x 480 the crop keeps
            about half.
        via: (height, width) that frames are resized to first, without regard to their aspect. With
            the size of the in-painted frames, real frames have the same resolution.
        normalise: "l2" scales every feature to length 1.
        stride: frames from one feature to the next.
        dtype: type of the stored features.
    """

    mode: Literal["center_crop", "squash"] = "center_crop"
    via: tuple[PositiveInt, PositiveInt] | None = None
    normalise: Literal["raw", "l2"] = "raw"  # our reading: CLIP normalises after the pooling
    stride: PositiveInt = 1  # "for every frame", Rai et al., suppl. 2.2
    dtype: Literal["float16", "float32"] = "float16"


class ViFiClipFeatures(NetworkExtractor[ViFiClipConfig]):
    """The projected class token of each frame, (512), computed from that frame only."""

    name: ClassVar[str] = "vifi_clip"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = ViFiClipConfig
    networks: ClassVar[Slots] = {NETWORK: CARDS}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "squash": {"mode": "squash"},
        # the same steps for normal frames and in-painted ones (256 x 256)
        "pseudo_anomaly": {"mode": "squash", "via": (256, 256)},
    }
    batch_size: ClassVar[int] = 64
    gpu_batch_size: ClassVar[int] = 512

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """One feature a frame."""
        dims = ("frame", "feature")
        return (ArraySpec("features", self.config.dtype, dims, (FEATURES,), role="frame"),)

    @property
    def clip_rule(self) -> ClipRule:
        """Single frames without context."""
        return ClipRule(1, self.config.stride)

    def resize_first(self, height: int, width: int) -> Resize:
        """The size of `via`, or of the mode."""
        if self.config.via is not None:
            return Resize(*self.config.via)
        return Resize(*self._size(height, width), self.card.extra["interpolation"])

    def _size(self, height: int, width: int) -> Size:
        """What pictures of (height, width) are resized to for the tower."""
        if self.config.mode == "squash":
            return SIDE, SIDE
        return short_side(height, width, self.card.extra["short_side"])

    def build(self) -> ClipTower:
        """Build the image tower."""
        return ClipTower()

    def rows(self, network: VideoNetwork, videos: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute "features", (n, 512)."""
        features = network.features(self.pixels(videos))
        return {
            "features": normalize(features, dim=1) if self.config.normalise == "l2" else features
        }

    def pixels(self, videos: Sequence[Tensor]) -> Tensor:
        """Resize and crop clips: (1, H, W, 3) uint8 -> (n, 1, 224, 224, 3) uint8."""
        if self.config.via is not None:
            videos = list(resized(videos, self.config.via))
        size = self._size(videos[0].shape[1], videos[0].shape[2])
        found = resized(videos, size, self.card.extra["interpolation"])
        top, left = (round((length - SIDE) / 2) for length in size)  # halves as in torchvision
        return found[:, :, top : top + SIDE, left : left + SIDE]

    def flops(self, height: int, width: int) -> float:
        """Count multiply-adds times two for one frame; the size of the video does not matter."""
        return frame_flops()
