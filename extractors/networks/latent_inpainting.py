"""In-painting by latent diffusion (Rombach et al., CVPR 2022): the network `inpainting_big`.

A VQ autoencoder (VQ-f4), a U-Net that sees the noisy latent picture, that of the masked picture and
the mask, and deterministic DDIM steps. The modules are those of diffusers, an optional package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ExtractorError
from ..weights.cards import Arrays, LayoutError, UrlSource, Weights

EXTRA = "vadpipe[diffusion]"
NOISE_STEPS, FIRST_BETA, LAST_BETA = 1000, 0.0015, 0.0205  # of the training


class MissingExtra(ExtractorError):
    """An optional package is not installed; the message names the command that installs it."""


@dataclass(frozen=True)
class Layout:
    """Sizes of the networks; the defaults are those of `inpainting_big`.

    Attributes:
        channels: of the U-Net's first level.
        multiples: channels of its levels, as multiples; all levels but the first have attention.
        blocks: residual blocks of a level.
        heads: of each attention.
        code_channels: of the autoencoder's first level.
        code_multiples: of its levels.
        codes: vectors of the code book.
        groups: of the group norms.
    """

    channels: int = 256
    multiples: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 2
    heads: int = 8
    code_channels: int = 128
    code_multiples: tuple[int, ...] = (1, 2, 4)
    codes: int = 8192
    groups: int = 32

    @property
    def shrink(self) -> int:
        """How many pixels a side of the latent picture's pixels has."""
        return int(2 ** (len(self.code_multiples) - 1))

    @property
    def multiple(self) -> int:
        """Height and width of a picture are multiples of this."""
        return self.shrink * int(2 ** (len(self.multiples) - 1))


PUBLISHED = Layout()


class LatentInpainting(nn.Module):
    """The autoencoder and the U-Net.

    Raises:
        MissingExtra: diffusers is not installed.
    """

    def __init__(self, layout: Layout = PUBLISHED) -> None:
        super().__init__()
        try:
            from diffusers import DDIMScheduler, UNet2DModel, VQModel
        except ImportError as error:
            raise MissingExtra(
                f"in-painting by latent diffusion needs the package diffusers ({error}): "
                f"pip install '{EXTRA}', or take another in-painter (--set inpainter=telea)"
            ) from error
        levels, code_levels = len(layout.multiples), len(layout.code_multiples)
        self.layout = layout
        self.vq: Any = VQModel(
            down_block_types=("DownEncoderBlock2D",) * code_levels,
            up_block_types=("UpDecoderBlock2D",) * code_levels,
            block_out_channels=tuple(layout.code_channels * m for m in layout.code_multiples),
            layers_per_block=layout.blocks,
            latent_channels=3,
            num_vq_embeddings=layout.codes,
            norm_num_groups=layout.groups,
            mid_block_add_attention=False,
        )
        self.unet: Any = UNet2DModel(
            in_channels=7,
            out_channels=3,
            down_block_types=("ResnetDownsampleBlock2D", *("AttnDownBlock2D",) * (levels - 1)),
            up_block_types=(*("AttnUpBlock2D",) * (levels - 1), "ResnetUpsampleBlock2D"),
            block_out_channels=tuple(layout.channels * m for m in layout.multiples),
            layers_per_block=layout.blocks,
            downsample_type="resnet",
            upsample_type="resnet",
            norm_num_groups=layout.groups,
        )
        for module in self.unet.modules():  # a number of heads, where diffusers has their width
            if hasattr(module, "to_q"):
                module.heads = layout.heads
                module.scale = (module.to_q.out_features // layout.heads) ** -0.5
        with torch.device("cpu"):  # plain numbers, also where the networks are built as "meta"
            self._scheduler: Any = DDIMScheduler(
                num_train_timesteps=NOISE_STEPS,
                beta_start=FIRST_BETA,
                beta_end=LAST_BETA,
                beta_schedule="scaled_linear",
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
            )

    def forward(self, pictures: Tensor, masks: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Predict pictures.

        Args:
            pictures:
                (B, 3, H, W) in [0, 1].
            masks:
                (B, 1, H, W), 1 where a picture is unknown, else 0.
            noise:
                (B, 3, H / 4, W / 4) standard normal, where the steps begin.
            steps:
                Of DDIM, without further noise.

        Returns:
            (B, 3, H, W) in [0, 1]; what lies outside of the masks is a guess too.
        """
        known = (1 - masks) * pictures * 2 - 1
        latent = self.vq.encode(known).latents
        place = interpolate(masks * 2 - 1, size=latent.shape[-2:])
        condition = torch.cat([latent, place], dim=1)
        self._scheduler.set_timesteps(steps)
        for step in self._scheduler.timesteps:
            found = self.unet(torch.cat([noise, condition], dim=1), step).sample
            noise = self._scheduler.step(found, step, noise).prev_sample
        return self._decoded(noise)

    def reconstruct(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] after the autoencoder alone: nothing is painted."""
        return self._decoded(self.vq.encode(pictures * 2 - 1).latents)

    def _decoded(self, latent: Tensor) -> Tensor:
        predicted: Tensor = self.vq.decode(latent).sample
        return ((predicted + 1) / 2).clamp(0, 1)


@lru_cache
def flops(height: int, width: int, steps: int, layout: Layout = PUBLISHED) -> float:
    """Count multiply-adds times two for one picture, on the meta device.

    Raises:
        MissingExtra: diffusers is not installed.
    """
    with torch.device("meta"), torch.no_grad():
        network = LatentInpainting(layout).eval()
        latent = torch.empty(1, 3, height // layout.shrink, width // layout.shrink)
        seen = torch.empty(1, 7, *latent.shape[2:])
        with FlopCounterMode(display=False) as codes:
            network.vq.encode(torch.empty(1, 3, height, width))
            network.vq.decode(latent)
        with FlopCounterMode(display=False) as step:
            network.unet(seen, 1)
    return float(codes.get_total_flops() + steps * step.get_total_flops())


# ------------------------------------------------------------------------------------ converter

# Within a block: name in CompVis's files -> ours.
_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_CODE_RESIDUAL = {
    **{name: name for name in ("norm1", "conv1", "norm2", "conv2")},
    "nin_shortcut": "conv_shortcut",
}
_ATTENTION = {"norm": "group_norm", "proj_out": "to_out.0"}
_PLAIN = {"": ""}
_Block = tuple[str, str, dict[str, str]]


def _unet_blocks(layout: Layout) -> Iterator[_Block]:
    """Each block of the U-Net: its name in the file, ours, and the names within."""
    levels, wide = len(layout.multiples), layout.blocks + 1
    yield from (("time_embed.0", "time_embedding.linear_1", _PLAIN),)
    yield from (("time_embed.2", "time_embedding.linear_2", _PLAIN),)
    yield from (("input_blocks.0.0", "conv_in", _PLAIN), ("out.0", "conv_norm_out", _PLAIN))
    yield from (("out.2", "conv_out", _PLAIN),)
    for level in range(levels):
        down, up = f"down_blocks.{level}", f"up_blocks.{level}"
        for i in range(layout.blocks):
            theirs = f"input_blocks.{1 + level * wide + i}"
            yield f"{theirs}.0", f"{down}.resnets.{i}", _RESIDUAL
            if level > 0:
                yield f"{theirs}.1", f"{down}.attentions.{i}", _ATTENTION
        if level < levels - 1:
            theirs = f"input_blocks.{1 + level * wide + layout.blocks}.0"
            yield theirs, f"{down}.downsamplers.0", _RESIDUAL
        attends = level < levels - 1  # the way up begins at the deepest level
        for i in range(wide):
            theirs = f"output_blocks.{level * wide + i}"
            yield f"{theirs}.0", f"{up}.resnets.{i}", _RESIDUAL
            if attends:
                yield f"{theirs}.1", f"{up}.attentions.{i}", _ATTENTION
        if level < levels - 1:
            theirs = f"output_blocks.{level * wide + layout.blocks}.{1 + attends}"
            yield theirs, f"{up}.upsamplers.0", _RESIDUAL
    yield "middle_block.0", "mid_block.resnets.0", _RESIDUAL
    yield "middle_block.1", "mid_block.attentions.0", _ATTENTION
    yield "middle_block.2", "mid_block.resnets.1", _RESIDUAL


def _vq_blocks(layout: Layout) -> Iterator[_Block]:
    """Each block of the autoencoder."""
    last = len(layout.code_multiples) - 1
    for name in ("quant_conv", "post_quant_conv", "quantize.embedding"):
        yield name, name, _PLAIN
    for side, theirs, ours, more in (
        ("encoder", "down", "down_blocks", 0),
        ("decoder", "up", "up_blocks", 1),
    ):
        yield f"{side}.conv_in", f"{side}.conv_in", _PLAIN
        yield f"{side}.conv_out", f"{side}.conv_out", _PLAIN
        yield f"{side}.norm_out", f"{side}.conv_norm_out", _PLAIN
        for i in (0, 1):
            yield f"{side}.mid.block_{i + 1}", f"{side}.mid_block.resnets.{i}", _CODE_RESIDUAL
        for level in range(last + 1):
            place = f"{side}.{theirs}.{last - level if more else level}"
            for i in range(layout.blocks + more):
                block = f"{side}.{ours}.{level}.resnets.{i}"
                yield f"{place}.block.{i}", block, _CODE_RESIDUAL
            if level < last:
                resample = "upsample" if more else "downsample"
                block = f"{side}.{ours}.{level}.{resample}rs.0.conv"
                yield f"{place}.{resample}.conv", block, _PLAIN


def from_compvis(arrays: Arrays, layout: Layout = PUBLISHED) -> dict[str, NDArray[Any]]:
    """Convert CompVis's checkpoint `inpainting_big`; of the U-Net the averaged weights are taken.

    A file without any averaged weights is taken as it is.

    Raises:
        LayoutError: names are missing or unknown, or the schedule of the noise is another one.
    """
    given = {name.removeprefix("state_dict/"): array for name, array in arrays.items()}
    if not any(name.startswith("model.diffusion_model.input_blocks.") for name in given):
        raise LayoutError("it has no 'model.diffusion_model.input_blocks': no latent diffusion")
    betas = np.linspace(FIRST_BETA**0.5, LAST_BETA**0.5, NOISE_STEPS) ** 2
    if "betas" in given and not (
        len(given["betas"]) == NOISE_STEPS and np.allclose(given["betas"], betas, rtol=1e-4)
    ):
        raise LayoutError("its schedule of noise is not that of inpainting_big")
    unet, codes = _unet_arrays(given), _under(given, "first_stage_model.")
    codes = {name: array for name, array in codes.items() if not name.startswith("loss.")}
    found = {f"vq.{n}": a for n, a in _renamed(codes, list(_vq_blocks(layout)), layout).items()}
    found |= {f"unet.{n}": a for n, a in _renamed(unet, list(_unet_blocks(layout)), layout).items()}
    return found


def _under(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _unet_arrays(given: Arrays) -> dict[str, NDArray[Any]]:
    """Averaged weights by their names in the U-Net; the file names them without dots."""
    plain = _under(given, "model.diffusion_model.")
    means = _under(given, "model_ema.diffusion_model")
    if not means:
        return plain
    missing = [name for name in plain if name.replace(".", "") not in means]
    if missing:
        raise LayoutError(f"it has averaged weights, but none of {', '.join(missing[:3])}")
    return {name: means[name.replace(".", "")] for name in plain}


def _renamed(
    arrays: dict[str, NDArray[Any]], blocks: list[_Block], layout: Layout
) -> dict[str, NDArray[Any]]:
    found, left = {}, dict(arrays)
    for theirs, ours, names in blocks:
        for their_leaf, our_leaf in names.items():
            for kind in ("weight", "bias"):
                name = ".".join(part for part in (theirs, their_leaf, kind) if part)
                if name in left:  # what is missing is noticed when the network is loaded
                    array = left.pop(name)
                    if names is _ATTENTION and array.ndim == 3:  # a convolution of one pixel
                        array = array[..., 0]
                    found[".".join(part for part in (ours, our_leaf, kind) if part)] = array
        if names is _ATTENTION:
            for kind in ("weight", "bias"):
                if (name := f"{theirs}.qkv.{kind}") in left:
                    found |= _split(left.pop(name), f"{ours}.{{}}.{kind}", layout.heads)
    if left:
        listed = ", ".join(sorted(left)[:3])
        raise LayoutError(f"it has {len(left)} arrays that inpainting_big lacks: {listed}")
    return found


def _split(array: NDArray[Any], name: str, heads: int) -> dict[str, NDArray[Any]]:
    """Queries, keys and values, which the file has one head after the other."""
    channels = len(array) // 3
    parts = array.reshape(heads, 3, channels // heads, *array.shape[1:2])
    return {
        name.format(part): np.ascontiguousarray(parts[:, i].reshape(channels, *array.shape[1:2]))
        for i, part in enumerate(("to_q", "to_k", "to_v"))
    }


CARDS = (
    Weights(
        name="latent_diffusion.inpainting_big",
        file="last.ckpt",
        sha256=None,
        sources=(UrlSource("https://heibox.uni-heidelberg.de/f/4d9ac7ea40c64582b7c9/?dl=1"),),
        layout="CompVis latent-diffusion (Lightning checkpoint)",
        licence="MIT by CompVis; Places allows research only",
        origin="CompVis, latent diffusion, inpainting_big, trained on Places",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        convert=from_compvis,
    ),
)
