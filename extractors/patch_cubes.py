"""Extractor `patch_cubes`: grids of patches of several sizes, each through a 3-D network.

Paper: SSRL, "Scale-aware Spatio-Temporal Relation Learning for Video Anomaly Detection", ECCV 2022,
Sect. 3.1 and 4.2: frames of 480 x 840, patches of 240 x 280, 160 x 168 and 120 x 120, which are
grids of 2 x 3, 3 x 5 and 4 x 7, from the top left, row by row. A patch goes through the network
without another resize.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from .base import ArraySpec, Config, Precision
from .clips import ClipRule, Tail
from .device.inference import VideoNetwork, resized
from .device.resize import Size
from .footage.resizing import Resize
from .network_extractor import NetworkExtractor
from .networks import i3d_r50, inception_i3d
from .networks.i3d import Backbone, I3d
from .weights.cards import ResolvedWeights
from .weights.slots import NETWORK, Slots

BACKBONES: dict[str, Backbone] = {
    each.name: each for each in (inception_i3d.BACKBONE, i3d_r50.BACKBONE, i3d_r50.BACKBONE_PTV)
}


class PatchCubesConfig(Config):
    """Settings of `patch_cubes`.

    Attributes:
        frame_size: (height, width) that frames are resized to; a grid needs a fixed size (SSRL,
            Sect. 4.2).
        patch_sizes: (height, width) of the patches of each grid. Grids start at the top left;
            the rest at the bottom and on the right is not used.
        backbone: the network; it takes the weights of the extractor of that name.
        clip_length: frames of a clip.
        stride: frames between the starts of two clips.
        tail: "loop" covers every frame; "drop" leaves an incomplete clip out.
        dtype: type of the stored features.
    """

    frame_size: tuple[PositiveInt, PositiveInt] = (480, 840)
    patch_sizes: tuple[tuple[PositiveInt, PositiveInt], ...] = Field(
        default=((240, 280), (160, 168), (120, 120)), min_length=1
    )
    backbone: Literal["inception_i3d", "i3d_r50", "i3d_r50_ptv"] = "inception_i3d"
    clip_length: PositiveInt = 16
    stride: PositiveInt = 16
    tail: Tail = "loop"
    dtype: Literal["float16", "float32"] = "float16"

    @model_validator(mode="after")
    def _grids_differ(self) -> Self:
        seen: dict[Size, Size] = {}
        for patch in self.patch_sizes:
            rows, columns = patch_grid(self.frame_size, patch)
            if rows * columns == 0:
                raise ValueError(f"a patch of {patch} does not fit into frames {self.frame_size}")
            if other := seen.get((rows, columns)):
                raise ValueError(f"patches {other} and {patch} both make a {rows}x{columns} grid")
            seen[rows, columns] = patch
        return self


def patch_grid(frame: Size, patch: Size) -> Size:
    """(rows, columns) of whole patches in a frame."""
    return frame[0] // patch[0], frame[1] // patch[1]


def cut_patches(videos: Tensor, patch: Size) -> Tensor:
    """Cut videos into a row-major grid of patches.

    Args:
        videos:
            (B, T, H, W, 3).
        patch:
            (h, w).

    Returns:
        (B * rows * columns, T, h, w, 3), the patches of a video one after the other.
    """
    count, frames, height, width, channels = videos.shape
    (h, w), (rows, columns) = patch, patch_grid((height, width), patch)
    whole = videos[:, :, : rows * h, : columns * w]
    tiles = whole.reshape(count, frames, rows, h, columns, w, channels)
    tiles = tiles.permute(0, 2, 4, 1, 3, 5, 6)  # (B, rows, columns, T, h, w, 3)
    return tiles.reshape(count * rows * columns, frames, h, w, channels)


class PatchCubes(NetworkExtractor[PatchCubesConfig]):
    """One array of patch features for each patch size: (patches, features) for each clip."""

    name: ClassVar[str] = "patch_cubes"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = PatchCubesConfig
    networks: ClassVar[Slots] = {NETWORK: tuple(c for b in BACKBONES.values() for c in b.cards)}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "ssrl": {"backbone": "i3d_r50"},  # the paper's 2048 features
        # the same three grids on frames of UCSD Ped2's size
        "small": {"frame_size": (240, 360), "patch_sizes": ((120, 120), (80, 72), (60, 51))},
    }
    batch_size: ClassVar[int] = 2  # a clip is cut into 49 patches
    gpu_batch_size: ClassVar[int] = 16

    def __init__(
        self,
        config: PatchCubesConfig,
        *,
        weights: Mapping[str, ResolvedWeights] | None = None,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__(config, weights=weights, precision=precision)
        self.backbone = BACKBONES[config.backbone]
        for patch in config.patch_sizes:
            self.backbone.check(config.clip_length, *patch)

    @classmethod
    def networks_for(cls, config: PatchCubesConfig) -> Slots:
        """Return the cards of the backbone."""
        return {NETWORK: BACKBONES[config.backbone].cards}

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """One array for each patch size, named after its grid."""
        return tuple(self._array(patch) for patch in self.config.patch_sizes)

    def _array(self, patch: Size) -> ArraySpec:
        rows, columns = grid = patch_grid(self.config.frame_size, patch)
        return ArraySpec(
            f"grid_{rows}x{columns}",
            self.config.dtype,
            ("snippet", "patch", "feature"),
            (rows * columns, self.backbone.features),
            role=f"patch/{rows}x{columns}",
            grid=grid,
            attrs=(("patch_height", patch[0]), ("patch_width", patch[1])),
        )

    @property
    def clip_rule(self) -> ClipRule:
        """Clips without context."""
        return ClipRule(self.config.clip_length, self.config.stride, self.config.tail)

    def resize_first(self, height: int, width: int) -> Resize:
        """The size that patches are cut from."""
        return Resize(*self.config.frame_size)

    def build(self) -> I3d:
        """Build the backbone."""
        return self.backbone.build()

    def rows(self, network: VideoNetwork, videos: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute (n, patches, features) for each patch size, in one batch for all clips."""
        frames = resized(videos, self.config.frame_size)
        rows = {}
        for patch in self.config.patch_sizes:
            array = self._array(patch)
            features = network.features(cut_patches(frames, patch))
            rows[array.name] = features.reshape(len(videos), *array.shape)
        return rows

    def flops(self, height: int, width: int) -> float:
        """Count multiply-adds times two for one clip; the size of the video does not matter."""
        return sum(
            rows * columns * self.backbone.flops(self.config.clip_length, *patch)
            for patch in self.config.patch_sizes
            for rows, columns in [patch_grid(self.config.frame_size, patch)]
        )
