"""Video Swin transformers: 768 or 1024 features a clip, by torchvision's `swin3d`.

Paper: Liu et al., "Video Swin Transformer", CVPR 2022. The code is torchvision's (BSD-3-Clause);
the licences of the weights are on their cards.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

from numpy.typing import NDArray
from torch import Tensor, nn

from ..weights.cards import Arrays, UrlSource, Weights
from .i3d import Backbone, I3d, from_state_dict

INDEX = "relative_position_index"  # torchvision's buffer, a function of the window's size
Variant = Literal["tiny", "small", "base"]


class VideoSwin(I3d):
    """A network of torchvision under our interface; total stride 2 in time and 32 in space.

    Other sizes are padded to whole patches and windows, as torchvision does.

    Args:
        variant: depth and width, Sect. 4.1 of the paper.
    """

    norm_of: ClassVar[dict[str, str]] = {}  # layer norms are not folded
    read_layers: ClassVar[tuple[str, ...]] = ("qkv", "proj")  # torchvision multiplies by itself

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        from torchvision.models.video import swin3d_b, swin3d_s, swin3d_t

        self.net: Any = {"tiny": swin3d_t, "small": swin3d_s, "base": swin3d_b}[variant]()
        self._set_indices()
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            lambda *_: self._set_indices()
        )

    def _set_indices(self) -> None:
        """Let each window compute where its position biases lie: no file says so, or can be wrong.

        Once more after weights were loaded: a network on the meta device has no values.
        """
        for module in self.net.modules():
            if hasattr(module, INDEX):
                module.define_relative_position_index()
                module.register_buffer(INDEX, getattr(module, INDEX), persistent=False)

    def last_map(self, videos: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised -> (B, D, T/2, ~H/32, ~W/32)."""
        x = self.net.pos_drop(self.net.patch_embed(videos))  # (B, T/2, H/4, W/4, C)
        x = self.net.norm(self.net.features(x))  # (B, T/2, H/32, W/32, 8 C)
        return cast(Tensor, x.permute(0, 4, 1, 2, 3))

    @property
    def classifier(self) -> nn.Linear:
        """D features -> classes."""
        return cast(nn.Linear, self.net.head)


def from_torchvision(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Take a state dict of torchvision's `swin3d`, also inside a dict.

    Raises:
        LayoutError: the file is not one.
    """
    state = from_state_dict(arrays, "patch_embed.proj.weight", "features.6.1.mlp.3.bias")
    return {f"net.{name}": values for name, values in state.items() if not name.endswith(INDEX)}


def _card(variant: str, data: str, file: str, top1: float, trained: str) -> Weights:
    return Weights(
        name=f"video_swin.{variant}_{data}",
        file=file,
        sha256=None,
        sources=(UrlSource(f"https://download.pytorch.org/models/{file}"),),
        layout="torchvision (state dict)",
        licence="BSD-3-Clause by the repository pytorch/vision; not stated with the file",
        origin=f"torchvision: Video Swin {variant}, ported from SwinTransformer/"
        f"Video-Swin-Transformer, {trained} with 32 frames, every second one; {top1} % top-1",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        convert=from_torchvision,
    )


_K400 = "started from ImageNet-1k and trained on Kinetics-400"
_K400_22K = "started from ImageNet-22k and trained on Kinetics-400"


def build_tiny() -> VideoSwin:
    """28 million parameters, the variant of SSRL, Table 2."""
    return VideoSwin("tiny")


def build_small() -> VideoSwin:
    """50 million parameters."""
    return VideoSwin("small")


def build_base() -> VideoSwin:
    """88 million parameters."""
    return VideoSwin("base")


BACKBONES: dict[Variant, Backbone] = {
    "tiny": Backbone(
        "video_swin",
        build_tiny,
        768,
        (_card("tiny", "kinetics", "swin3d_t-7615ae03.pth", 77.7, _K400),),
    ),
    "small": Backbone(
        "video_swin",
        build_small,
        768,
        (_card("small", "kinetics", "swin3d_s-da41c237.pth", 79.5, _K400),),
    ),
    "base": Backbone(
        "video_swin",
        build_base,
        1024,
        (
            _card("base", "kinetics", "swin3d_b_1k-24f7c7c6.pth", 79.4, _K400),
            _card("base", "imagenet22k", "swin3d_b_22k-7c6ae6fa.pth", 81.6, _K400_22K),
        ),
    ),
}
