"""Frozen networks on the device: precision, folding, resizing, normalisation, micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .base import ExtractorError, Precision, PrecisionRequest
from .weights import ResolvedWeights, load_tensors

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

# Pixels (frames x height x width) that go through a network at once. On a CPU two clips of
# 16 x 224 x 224 are the fastest; a GPU wants many.
CPU_PIXELS = 2 * 16 * 224 * 224
GPU_PIXELS = 32 * 16 * 224 * 224

Size = tuple[int, int]  # height, width


# --------------------------------------------------------------------------------- precision


def resolve_precision(request: PrecisionRequest, device: str) -> Precision:
    """Settle the precision before a key is made.

    "auto" is bf16 where the hardware multiplies in it (CUDA, CPUs with AVX512-BF16 or AMX), else
    fp16 on CUDA, else fp32.

    Raises:
        ExtractorError: the device does not exist, or lacks the precision asked for.
    """
    able = _precisions(device)
    if request == "auto":
        return able[0]
    if request not in able:
        raise ExtractorError(
            f"device {device!r} does not do {request}; it does {', '.join(able)} "
            "(--precision auto takes the first)"
        )
    return request


def _precisions(device: str) -> tuple[Precision, ...]:
    """What a device does, the best first."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return ("bf16", "fp32") if _cpu_has_bf16() else ("fp32",)
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise ExtractorError(f"there is no device {device!r} ({count} CUDA devices found)")
        with torch.cuda.device(torch.device(device)):
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "fp16", "fp32") if has_bf16 else ("fp16", "fp32")
    raise ExtractorError(f"device {device!r} is unknown: take cpu, cuda or cuda:N")


def _cpu_has_bf16() -> bool:
    """True where bf16 is faster than fp32 and not merely emulated."""
    # private in torch, so a version may lack them: then bf16 is not offered
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


# --------------------------------------------------------------------------------- preparing


def prepare(network: nn.Module, precision: Precision, device: str) -> nn.Module:
    """Make a network ready for inference, in place.

    Evaluation mode, no gradients, batch norms folded into their convolutions (in float64),
    channels last, precision, device. For fp32 on CUDA, TF32 is switched off in this process.

    Args:
        network:
            With its weights loaded. What its attribute `norm_of` names is folded (see
            `fold_batch_norms`); without that attribute nothing is.
        precision:
            As resolved.
        device:
            "cpu", "cuda:0", ...

    Raises:
        ExtractorError: `norm_of` does not fit the network.
    """
    network = network.eval().requires_grad_(False)
    norm_of = getattr(network, "norm_of", {})
    if norm_of:  # double precision is for folding alone
        fold_batch_norms(network.double(), norm_of)
    network = network.to(device=device, dtype=DTYPES[precision])
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if layout := formats.get(parameter.dim()):
            parameter.data = parameter.data.contiguous(memory_format=layout)
    if precision == "fp32" and device.startswith("cuda"):
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return network


def fold_batch_norms(network: nn.Module, norm_of: Mapping[str, str]) -> None:
    """Fold batch norms into their convolutions, in place.

    Which norm follows which convolution cannot be seen from outside, so the network states it.

    Args:
        network:
            In evaluation mode.
        norm_of:
            In any of its modules: name of a convolution -> name of the batch norm beside it that
            alone reads the convolution's output. A pair of which one is something else there is
            left as it is.

    Raises:
        ExtractorError: the network has no such pair at all.
    """
    for conv_name, norm_name in norm_of.items():
        found = False
        for module in list(network.modules()):
            children = dict(module.named_children())
            conv, norm = children.get(conv_name), children.get(norm_name)
            if isinstance(conv, _ConvNd) and isinstance(norm, _BatchNorm):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
                found = True
        if not found:
            raise ExtractorError(
                f"{type(network).__name__} has no batch norm {norm_name!r} beside a convolution "
                f"{conv_name!r}: correct its norm_of"
            )


# ------------------------------------------------------------------------------------ pixels


def short_side(height: int, width: int, side: int) -> Size:
    """The size with the shorter side as told; the longer one is rounded down (torchvision)."""
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def resize_frames(frames: NDArray[np.uint8], size: Size) -> Tensor:
    """Resize by bilinear interpolation with antialias.

    In uint8 and on the CPU whatever the device: the same pixels everywhere, equal to Pillow's to
    one grey level, and several times faster than in float.

    Args:
        frames:
            (T, H, W, 3) uint8.
        size:
            (h, w).

    Returns:
        (T, h, w, 3) uint8.
    """
    video = torch.from_numpy(frames if frames.flags.writeable else frames.copy())
    if tuple(video.shape[1:3]) == size:
        return video
    pictures = video.permute(0, 3, 1, 2)  # (T, 3, H, W), channels last in memory
    return interpolate(pictures, size, mode="bilinear", antialias=True).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class VideoNetwork:
    """A prepared network that takes uint8 videos.

    Attributes:
        network: (B, 3, T, H, W) normalised -> (B, D) float32.
        mean: a channel, in units of pixels in 0..255.
        std: likewise.
        precision: of the network.
        device: of the network.
    """

    network: nn.Module
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    precision: Precision
    device: str

    @torch.inference_mode()
    def __call__(self, videos: Tensor) -> Tensor:
        """(B, T, H, W, 3) uint8 -> (B, D) float32 on the device."""
        return torch.cat([self.network(self.normalise(part)) for part in self.parts(videos)])

    def normalise(self, videos: Tensor) -> Tensor:
        """(B, T, H, W, 3) uint8 -> (B, 3, T, H, W) normalised, channels last in memory."""
        values = videos.to(self.device).to(torch.float32)
        values = values.sub_(values.new_tensor(self.mean)).div_(values.new_tensor(self.std))
        return values.to(DTYPES[self.precision]).permute(0, 4, 1, 2, 3)

    def parts(self, videos: Tensor) -> Iterator[Tensor]:
        """The batch in parts that suit the device."""
        budget = CPU_PIXELS if self.device == "cpu" else GPU_PIXELS
        return iter(torch.split(videos, max(1, budget // videos[0, ..., 0].numel())))


def load_video_network(
    build: Callable[[], nn.Module], weights: ResolvedWeights, precision: Precision, device: str
) -> VideoNetwork:
    """Build a network, load its weights strictly and prepare it.

    Raises:
        WeightsError: the weights are damaged or belong to another network.
    """
    with torch.device("meta"):  # no time lost on initial values
        network = build()
    tensors = load_tensors(weights, network.state_dict())
    state = {name: torch.from_numpy(values) for name, values in tensors.items()}
    network.load_state_dict(state, assign=True)
    card = weights.card
    return VideoNetwork(prepare(network, precision, device), card.mean, card.std, precision, device)
