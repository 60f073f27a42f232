"""CLIP ViT-B/16 and ViFi-CLIP: 512 features a frame.

Papers: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
ICML 2021 (CLIP); Rasheed et al., "Fine-tuned CLIP Models are Efficient Video Learners", CVPR 2023
(ViFi-CLIP: the same network, fine-tuned on Kinetics-400). Rai et al., CVPRW 2024, supplement 2.2,
use it frame by frame and without temporal pooling. The network is timm's (Apache-2.0). The
converters read the key names of openai/CLIP and muzairkhattak/ViFi-CLIP (both MIT). The licences of
the weights are on their cards.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, cast

from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..weights.cards import Arrays, LayoutError, UrlSource, Weights
from .fused import FusedLinear

FEATURES = 512
WIDTH = 768
BLOCKS = 12
PATCH = 16
QUICK = 1.702  # of QuickGELU
SIDE = 224  # the only size: the positions are those of 14 x 14 patches


class ClipTower(nn.Module):
    """The image tower of CLIP ViT-B/16, frame by frame: 86.2 million parameters.

    The layers are: patches of 16 x 16 and a class token, layer norm, 12 pre-norm blocks of 12 heads
    with QuickGELU (x * sigmoid(1.702 x), not GELU), layer norm of the class token, projection
    without bias. All layer norms have epsilon 1e-5.
    """

    def __init__(self) -> None:
        super().__init__()
        from timm.models.vision_transformer import VisionTransformer  # its import takes seconds

        self.tower = VisionTransformer(
            img_size=SIDE,
            patch_size=PATCH,
            embed_dim=WIDTH,
            depth=BLOCKS,
            num_heads=12,
            pre_norm=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-5),
            act_layer="quick_gelu",
            num_classes=FEATURES,
        )
        self.tower.head = nn.Linear(WIDTH, FEATURES, bias=False)

    def simplify(self) -> None:
        """Scale the layers around each QuickGELU, so that it becomes torch's SiLU, in place.

        x * sigmoid(1.702 x) = SiLU(1.702 x) / 1.702.
        """
        blocks: list[Any] = list(self.tower.blocks)
        for block in blocks:
            block.mlp = _Mlp(block.mlp.fc1, block.mlp.fc2)

    def forward(self, videos: Tensor) -> Tensor:
        """(B, 3, 1, 224, 224) normalised -> (B, 512) float32, not scaled to length 1."""
        return cast(Tensor, self.tower(videos[:, :, 0])).float()


class _Mlp(nn.Module):
    """The two linear layers of a block, their weights scaled for a SiLU between them."""

    def __init__(self, first: nn.Linear, second: nn.Linear) -> None:
        super().__init__()
        first.weight.mul_(QUICK)
        first.bias.mul_(QUICK)
        second.weight.div_(QUICK)
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 768) -> (B, N, 768)."""
        if isinstance(self.first, FusedLinear):
            return cast(Tensor, self.second(self.first(x, silu=True)))
        return cast(Tensor, self.second(functional.silu(self.first(x), inplace=True)))


def frame_flops() -> float:
    """Count multiply-adds times two of one frame through the tower."""
    patches = (SIDE // PATCH) ** 2
    tokens = patches + 1
    linear = tokens * WIDTH * (3 + 1 + 4 + 4) * WIDTH  # qkv, projection, the two of the MLP
    attention = 2 * tokens * tokens * WIDTH
    embed = patches * 3 * PATCH**2 * WIDTH
    return 2.0 * (embed + BLOCKS * (linear + attention) + WIDTH * FEATURES)


def from_openai(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Take the image tower out of OpenAI's CLIP, archive or state dict: names `visual.*`.

    Raises:
        LayoutError: the file is not that network.
    """
    return _image_tower(arrays, "visual.")


def from_vifi_clip(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Take the image tower out of a ViFi-CLIP checkpoint: names `module.image_encoder.*`.

    Raises:
        LayoutError: the file is not that network, or has visual prompts.
    """
    return _image_tower(arrays, "image_encoder.")


def _image_tower(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    """Select the arrays below a prefix and rename them; text tower and optimiser are left out."""
    names = {key: key.rpartition("/")[2].removeprefix("module.") for key in arrays}
    found = {name: arrays[key] for key, name in names.items() if name.startswith(prefix)}
    if not found:
        raise LayoutError(f"it has no arrays {prefix}*")
    if prompts := [name for name in found if "VPT" in name]:
        raise LayoutError(f"it has visual prompts ({prompts[0]!r}), which are not supported")
    tensors = {}
    for name, value in found.items():
        ours = _our_name(name.removeprefix(prefix))
        if ours is None:
            raise LayoutError(f"it has an array {name!r}")
        match ours:
            case "cls_token":  # (768) -> (1, 1, 768)
                value = value[None, None]
            case "pos_embed":  # (197, 768) -> (1, 197, 768)
                value = value[None]
            case "head.weight":  # (768, 512), multiplied from the right
                value = value.T
        tensors[f"tower.{ours}"] = value
    return tensors


def _our_name(name: str) -> str | None:
    if block := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", name):
        part = _BLOCK_NAMES.get(block[2])
        return part and f"blocks.{block[1]}.{part}"
    return _NAMES.get(name)


_NAMES = {
    "class_embedding": "cls_token",
    "positional_embedding": "pos_embed",
    "conv1.weight": "patch_embed.proj.weight",
    "ln_pre.weight": "norm_pre.weight",
    "ln_pre.bias": "norm_pre.bias",
    "ln_post.weight": "norm.weight",
    "ln_post.bias": "norm.bias",
    "proj": "head.weight",
}
_BLOCK_NAMES = {
    "ln_1.weight": "norm1.weight",
    "ln_1.bias": "norm1.bias",
    "attn.in_proj_weight": "attn.qkv.weight",
    "attn.in_proj_bias": "attn.qkv.bias",
    "attn.out_proj.weight": "attn.proj.weight",
    "attn.out_proj.bias": "attn.proj.bias",
    "ln_2.weight": "norm2.weight",
    "ln_2.bias": "norm2.bias",
    "mlp.c_fc.weight": "mlp.fc1.weight",
    "mlp.c_fc.bias": "mlp.fc1.bias",
    "mlp.c_proj.weight": "mlp.fc2.weight",
    "mlp.c_proj.bias": "mlp.fc2.bias",
}


def _vifi_clip_card(name: str, file: str, origin: str) -> Weights:
    # No sources: the authors' links have changed before, and they state no hashes.
    return Weights(
        name=name,
        file=file,
        sha256=None,
        sources=(),
        layout="muzairkhattak/ViFi-CLIP (checkpoint)",
        licence="MIT for code and models, by the authors (muzairkhattak/ViFi-CLIP, issue 7)",
        origin=f"ViFi-CLIP ViT-B/16 of Rasheed et al., OpenAI's CLIP fine-tuned on Kinetics-400, "
        f"{origin}; linked in the model zoo of https://github.com/muzairkhattak/ViFi-CLIP",
        # fine-tuned with ImageNet's statistics (its datasets/build.py), not with CLIP's
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        extra={"short_side": 256, "interpolation": "bilinear"},
        convert=from_vifi_clip,
    )


CARDS = (
    _vifi_clip_card(
        "vifi_clip.k400",
        "vifi_clip_30_epochs_k400_full_finetuned.pth",
        "fully supervised, 16 frames (configs/fully_supervised/k400/16_16_vifi_clip.yaml)",
    ),
    _vifi_clip_card(
        "vifi_clip.k400_zero_shot",
        "vifi_clip_10_epochs_k400_full_finetuned.pth",
        "for zero-shot tests, 32 frames (configs/zero_shot/train/k400/16_16_vifi_clip.yaml)",
    ),
    Weights(
        name="vifi_clip.openai",
        file="ViT-B-16.pt",
        sha256="5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        sources=(
            UrlSource(
                "https://openaipublic.azureedge.net/clip/models/"
                "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt"
            ),
        ),
        layout="openai/CLIP (TorchScript archive or state dict)",
        licence="MIT by its repository",
        origin="CLIP ViT-B/16 of Radford et al., trained by OpenAI on 400 million pairs of images "
        "and texts from the web",
        mean=(122.7709383, 116.7460125, 104.09373615),  # 0.48145466, 0.4578275, 0.40821073
        std=(68.5005327, 66.6321579, 70.32316305),  # 0.26862954, 0.26130258, 0.27577711
        extra={"short_side": 224, "interpolation": "bicubic"},
        convert=from_openai,
    ),
)
