"""The base of the I3D extractors: settings, crops, and rows from a network's last map.

A clip is resized and cut into one or ten crops. Every crop becomes one feature: the mean of the
network's last map over time and space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self, cast

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor

from .base import ArraySpec, Config, Precision
from .clips import ClipRule, Tail
from .device.inference import VideoNetwork, resized
from .device.resize import Size, short_side
from .errors import ExtractorError
from .footage.resizing import Resize
from .network_extractor import NetworkExtractor
from .networks.i3d import CLASSES, Backbone, I3d
from .weights.cards import ResolvedWeights

# The order of torchvision's TenCrop, which public extractors of these features follow.
CROP_ORDER = "top left, top right, bottom left, bottom right, centre; then the same, mirrored"


def ten_crop(pictures: Tensor, size: Size) -> list[Tensor]:
    """Cut the four corners and the centre, then the same of the mirror image (TenCrop).

    Args:
        pictures:
            (..., H, W, C).
        size:
            (h, w) of a crop.

    Returns:
        Ten views (..., h, w, C); the last five are views of one mirrored copy. See `CROP_ORDER`.

    Raises:
        ExtractorError: a crop does not fit.
    """
    height, width = pictures.shape[-3:-1]
    (top, left), (h, w) = centre_of((height, width), size), size
    bottom, right = height - h, width - w
    corners = ((0, 0), (0, right), (bottom, 0), (bottom, right), (top, left))
    return [
        picture[..., y : y + h, x : x + w, :]
        for picture in (pictures, pictures.flip(-2))
        for y, x in corners
    ]


def centre_of(frame: Size, size: Size) -> Size:
    """Compute (y, x) where a centre crop starts; halves round to even, as in torchvision.

    Raises:
        ExtractorError: the crop does not fit.
    """
    if size[0] > frame[0] or size[1] > frame[1]:
        raise ExtractorError(
            f"a crop of {size[0]} x {size[1]} does not fit into {frame[0]} x {frame[1]} pixels: "
            "set resize"
        )
    return round((frame[0] - size[0]) / 2), round((frame[1] - size[1]) / 2)


class I3DConfig(Config):
    """Settings of all I3D extractors.

    Attributes:
        clip_length: frames of a clip.
        stride: frames between the starts of two clips.
        tail: "loop" covers every frame; "drop" leaves an incomplete clip out.
        resize: length of the short side, or exact (height, width); None keeps the video's size.
        crops: 10 takes four corners, the centre and the same five mirrored; 1 takes the centre.
        crop_size: side of the square crops; None takes the whole frame (the networks are fully
            convolutional).
        dtype: type of the stored features.
        logits: also store the 400 Kinetics logits (float32).
    """

    clip_length: PositiveInt = 16
    stride: PositiveInt = 16
    tail: Tail = "loop"
    resize: PositiveInt | tuple[PositiveInt, PositiveInt] | None = 256  # protocol of all weights
    crops: Literal[1, 10] = 1
    crop_size: PositiveInt | None = None
    dtype: Literal["float16", "float32"] = "float16"
    logits: bool = False

    @model_validator(mode="after")
    def _crops_fit(self) -> Self:
        if self.crop_size is None:
            if self.crops != 1:
                raise ValueError(f"{self.crops} crops need a crop_size")
            return self
        short = min(self.resize) if isinstance(self.resize, tuple) else self.resize
        if short is not None and self.crop_size > short:
            raise ValueError(f"crop_size {self.crop_size} is larger than resize {self.resize}")
        return self


class I3DFeatures(NetworkExtractor[I3DConfig]):
    """The mean of a network's last map: (crops, D) for each clip.

    Class attributes:
        backbone: the network.
    """

    backbone: ClassVar[Backbone]
    Config: ClassVar[type[Config]] = I3DConfig

    def __init__(
        self,
        config: I3DConfig,
        *,
        weights: Mapping[str, ResolvedWeights] | None = None,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__(config, weights=weights, precision=precision)
        side = config.crop_size or self.backbone.min_side  # other sizes depend on the video
        self.backbone.check(config.clip_length, side, side)

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """Features, and logits if the config asks for them."""
        crops = self.config.crops
        attrs = (("crop_order", CROP_ORDER),) if crops == 10 else ()
        features = ArraySpec(
            "features",
            self.config.dtype,
            ("snippet", "crop", "feature"),
            (crops, self.backbone.features),
            role="snippet",
            attrs=attrs,
        )
        logits = ArraySpec(
            "logits", "float32", ("snippet", "crop", "class"), (crops, CLASSES), attrs=attrs
        )
        return (features, logits) if self.config.logits else (features,)

    @property
    def clip_rule(self) -> ClipRule:
        """Clips without context."""
        return ClipRule(self.config.clip_length, self.config.stride, self.config.tail)

    def resize_first(self, height: int, width: int) -> Resize | None:
        """The size that crops are cut from."""
        return None if self.config.resize is None else Resize(*self._resized(height, width))

    def build(self) -> I3d:
        """Build the backbone."""
        return self.backbone.build()

    def rows(self, network: VideoNetwork, videos: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute features (n, crops, D) and, if the config asks for them, logits (n, crops, 400).

        Raises:
            ExtractorError: the frames are too small for the crops or the network.
        """
        size = self._resized(videos[0].shape[1], videos[0].shape[2])
        crops = self._crops(resized(videos, size))  # (n, crops, T, h, w, 3)
        self.backbone.check(*crops.shape[2:5])
        features = network.features(crops.flatten(0, 1)).reshape(*crops.shape[:2], -1)
        rows = {"features": features}
        if self.config.logits:
            rows["logits"] = cast(I3d, network.network).classify(features)
        return rows

    def _crops(self, videos: Tensor) -> Tensor:
        """Cut the crops: (n, T, H, W, 3) uint8 -> (n, crops, T, h, w, 3) uint8."""
        if (side := self.config.crop_size) is None:
            return videos[:, None]
        size = (side, side)
        if self.config.crops == 10:
            return torch.stack(ten_crop(videos, size), 1)
        y, x = centre_of((videos.shape[2], videos.shape[3]), size)
        return videos[:, None, :, y : y + side, x : x + side]

    def _resized(self, height: int, width: int) -> Size:
        match self.config.resize:
            case None:
                return height, width
            case int(side):
                return short_side(height, width, side)
            case size:
                return size

    def flops(self, height: int, width: int) -> float:
        """Count multiply-adds times two for one clip of a video of this size."""
        side = self.config.crop_size
        size = self._resized(height, width) if side is None else (side, side)
        return self.config.crops * self.backbone.flops(self.config.clip_length, *size)
