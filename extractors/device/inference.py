"""Frozen networks on the device: precision, folding, normalisation, batches that fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import pooch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..base import Precision, PrecisionRequest, Runtime
from ..errors import ExtractorError
from ..networks.folding import Form
from ..networks.fused import fuse
from ..networks.fused import is_available as can_fuse
from ..weights.cards import ResolvedWeights
from ..weights.load import load_tensors
from .first_layer import FirstLayers
from .graphs import CudaRecorder, Graphs, Record
from .lane import lane_of
from .micro_batch import (
    MicroBatches,
    even_parts,
    half,
    is_out_of_memory,
    most_items,
    seconds_of,
    shared_sizes,
)
from .normalise import Normalise
from .pinned import ring_of
from .pixels import tensor_of
from .present import check_device, switch_tf32_off
from .resize import Interpolation, Size, resize_frames
from .tuning import MOST_ITEMS

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

COMPILED_SHAPES = 64
COMPILED_FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # torch's own variable

R = TypeVar("R")


# --------------------------------------------------------------------------------- precision


def resolve_precision(request: PrecisionRequest, device: str) -> Precision:
    """Decide the precision, before a key is made.

    "auto" is bf16 where the hardware multiplies in it (CUDA, CPUs with AVX512-BF16 or AMX), else
    fp16 on CUDA, else fp32.

    Raises:
        ExtractorError: the device does not exist, or lacks the precision asked for.
    """
    able = available_precisions(device)
    if request == "auto":
        return able[0]
    if request not in able:
        raise ExtractorError(
            f"device {device!r} does not do {request}; it does {', '.join(able)} "
            "(--precision auto takes the first)"
        )
    return request


def available_precisions(device: str) -> tuple[Precision, ...]:
    """The precisions of a device, the best first.

    Raises:
        ExtractorError: there is no such device.
    """
    if check_device(device) == "cpu":
        return ("bf16", "fp32") if _cpu_has_bf16() else ("fp32",)
    with torch.cuda.device(torch.device(device)):
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return ("bf16", "fp16", "fp32") if has_bf16 else ("fp16", "fp32")


def _cpu_has_bf16() -> bool:
    """True where bf16 is faster than fp32 and not merely emulated."""
    # private in torch, so a version may lack them: then bf16 is not offered
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


# --------------------------------------------------------------------------------- preparing


def prepare(
    network: nn.Module, precision: Precision, device: str, *, fused: bool = True
) -> nn.Module:
    """Make a network ready for inference, in place.

    Evaluation mode, no gradients, batch norms folded into their convolutions (in float64), its own
    `simplify()` if it has one, channels last, precision, device; on a CPU layers with what follows
    them in one pass (`fused.py`). For fp32 on CUDA, TF32 is switched off in this process.

    Args:
        network:
            With its weights loaded. What its attribute `norm_of` names is folded (see
            `fold_batch_norms`); without that attribute nothing is.
        precision:
            As resolved.
        device:
            "cpu", "cuda:0", ...
        fused:
            False leaves layers as torch has them, for `torch.compile`.

    Raises:
        ExtractorError: `norm_of` does not fit the network.
    """
    network = network.eval().requires_grad_(False)
    norm_of = getattr(network, "norm_of", {})
    if norm_of:  # double precision is for folding alone
        fold_batch_norms(network.double(), norm_of)
    if simplify := getattr(network, "simplify", None):
        simplify()
    network = network.to(device=device, dtype=DTYPES[precision])
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if layout := formats.get(parameter.dim()):
            parameter.data = parameter.data.contiguous(memory_format=layout)
    if fused and device == "cpu" and can_fuse(DTYPES[precision]):
        fuse(network)
    if precision == "fp32" and device.startswith("cuda"):
        switch_tf32_off()
    return network


def fold_batch_norms(network: nn.Module, norm_of: Mapping[str, str]) -> None:
    """Fold batch norms into their convolutions, in place.

    Which norm follows which convolution cannot be seen from outside, so the network states it.

    Args:
        network:
            In evaluation mode.
        norm_of:
            In any of its modules: name of a convolution -> name of the batch norm beside it that
            alone reads the convolution's output. A pair in which one is something else is left as
            it is.

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


# ------------------------------------------------------------------------------------ running


class OnDevice:
    """A device that networks run on: clips come to it, and work takes turns in its lane.

    Args:
        runtime:
            Where and how networks run.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.device = runtime.device
        self._threads = runtime.threads or torch.get_num_threads()
        self._compiled = runtime.compile

    def stage(self, clips: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
        """Bring clips to the device: (T, H, W, 3) uint8 each, which must not be written there.

        On CUDA through buffers of pinned memory, while the network works on other batches.
        """
        videos = [tensor_of(clip) for clip in clips]
        if self.device == "cpu":
            return videos
        return ring_of(self.device).send(videos)

    def turn(self, work: Callable[[], R]) -> R:
        """Run work in the lane of the device, without gradients."""

        def inside() -> R:
            if self.device == "cpu" and torch.get_num_threads() != self._threads:
                torch.set_num_threads(self._threads)
            if self._compiled:
                _compile_more_shapes()
            with torch.inference_mode():
                return work()

        return lane_of(self.device).run(inside)


class VideoNetwork(OnDevice):
    """A prepared network that takes uint8 videos, in the lane of its device.

    Args:
        network:
            (B, 3, T, H, W) normalised -> (B, D) float32.
        mean:
            A channel, in units of pixels in 0..255.
        std:
            A channel, in units of pixels in 0..255.
        precision:
            Of the network.
        runtime:
            Where and how it runs.
        sizes:
            Where the best batch sizes are kept; None takes those of the process.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        precision: Precision,
        runtime: Runtime,
        sizes: MicroBatches | None = None,
    ) -> None:
        super().__init__(runtime)
        self.network = network
        self.precision = precision
        self._name = type(network).__name__
        self._run: Callable[[Tensor], Tensor] = network
        self._normalised = Normalise(mean, std, DTYPES[precision], runtime.device)
        self._whole = runtime.batch_size is not None
        self._most = MOST_ITEMS  # of a whole batch, unless memory has run out
        self._sizes = sizes or shared_sizes(runtime.tuning)
        self._first = FirstLayers(network, self._sizes.tuning)
        if runtime.compile:
            keep_compiled_code_private()
            self._run = torch.compile(network, dynamic=False)
        self.graphs: Graphs | None = None
        if runtime.cuda_graphs and runtime.device != "cpu":
            self.use_graphs(CudaRecorder(runtime.device))

    def use_graphs(self, record: Record) -> None:
        """Record the network, with the normalisation before it, for each shape that comes back."""
        self.graphs = Graphs(self._from_pixels, self.precision, record)

    def __call__(self, videos: Tensor) -> Tensor:
        """(B, T, H, W, 3) uint8 -> (B, D) float32 on the device."""
        return self.turn(lambda: self.features(videos))

    def features(self, videos: Tensor) -> Tensor:
        """The same, in micro-batches; to be called in a `turn`.

        Raises:
            ExtractorError: not even one item fits into the memory of the device.
        """
        what = self._what(videos[0])
        size = self._size(videos[0], what)
        rows: list[Tensor] = []
        done = 0
        while done < len(videos):
            rest = videos[done:]
            try:
                for part in even_parts(len(rest), size):
                    rows.append(self._forward(rest[part], size))
                    done += part.stop - part.start
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.graphs is not None and self.graphs.give_up():
                    continue  # with the memory that they had
                size = self._shrink(what, min(size, len(rest)))
        return torch.cat(rows)

    def _forward(self, videos: Tensor, size: int) -> Tensor:
        count = len(videos)
        if self._compiled and not self._whole and count < size:
            # A new shape would be compiled again, so the batch is filled up.
            videos = torch.cat([videos, videos[-1:].expand(size - count, *videos.shape[1:])])
        run = self.graphs or self._from_pixels
        return run(videos)[:count]

    def _size(self, item: Tensor, what: str) -> int:
        if self._whole:
            return self._most

        def run(count: int) -> Callable[[], Tensor]:  # not compiled: every size would take minutes
            batch = torch.zeros((count, *item.shape), dtype=torch.uint8, device=item.device)
            return lambda: cast(Tensor, self.network(self.normalise(batch)))

        def measure(count: int) -> float:
            return seconds_of(run(count), self.device)

        self._first.choose(what, lambda: run(1)())
        return self._sizes.size(what, self.device, most_items(item, self.device), measure)

    def _shrink(self, what: str, size: int) -> int:
        if not self._whole:
            return self._sizes.shrink(what, self.device, size)
        self._most = half(size, what, self.device)
        return self._most

    def _what(self, item: Tensor) -> str:
        shape = "x".join(str(n) for n in item.shape[:3])
        threads = f" {self._threads} threads" if self.device == "cpu" else ""
        return f"{self._name} {self.precision} {shape}{threads}"

    def batch_size(self, shape: tuple[int, int, int]) -> int:
        """How many items (T, H, W, 3) of this shape go through at once."""
        item = torch.zeros((*shape, 3), dtype=torch.uint8, device=self.device)
        return self.turn(lambda: self._size(item, self._what(item)))

    def first_layers(self, shape: tuple[int, int, int]) -> dict[str, Form]:
        """How first layers take items (T, H, W, 3) of this shape, by the name of the layer."""
        self.batch_size(shape)
        return self._first.forms()

    def normalise(self, videos: Tensor) -> Tensor:
        """(B, T, H, W, 3) uint8 -> (B, 3, T, H, W) normalised, channels last in memory."""
        return self._normalised(videos)

    def _from_pixels(self, videos: Tensor) -> Tensor:
        return self._run(self.normalise(videos))


def keep_compiled_code_private() -> None:
    """Let torch.compile write to the user's cache folder, unless a variable names another one.

    What is there is run. The default is a folder in /tmp that any user could have made before.

    Raises:
        ExtractorError: the folder cannot be made.
    """
    if COMPILED_FOLDER in os.environ:
        return
    folder = Path(pooch.os_cache("vadpipe")) / "compiled"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ExtractorError(
            f"torch.compile has no place for its files ({error}): name a folder that only you may "
            f"write to in {COMPILED_FOLDER}"
        ) from error
    os.environ[COMPILED_FOLDER] = str(folder)


def _compile_more_shapes() -> None:
    """One for each size of frames and patches; beyond the limit none is compiled.

    torch keeps it for each thread.
    """
    from torch._dynamo import config  # takes a second

    if config.recompile_limit < COMPILED_SHAPES:
        config.recompile_limit = COMPILED_SHAPES


def resized(videos: Sequence[Tensor], size: Size, kind: Interpolation = "bilinear") -> Tensor:
    """Clips (T, H, W, 3) of one shape -> (n, T, h, w, 3) uint8, resized where they are."""
    if videos[0].device.type == "cpu":  # one by one: the large pictures are not copied together
        return torch.stack([resize_frames(video, size, kind) for video in videos])
    frames = torch.cat(list(videos))
    return resize_frames(frames, size, kind).reshape(len(videos), -1, *size, 3)


def load_video_network(
    build: Callable[[], nn.Module],
    weights: ResolvedWeights,
    precision: Precision,
    runtime: Runtime,
    sizes: MicroBatches | None = None,
) -> VideoNetwork:
    """Build a network, load its weights strictly and prepare it.

    `sizes` as for `VideoNetwork`.

    Raises:
        WeightsError: the weights are damaged or belong to another network.
    """
    with torch.device("meta"):  # no time lost on initial values
        network = build()
    tensors = load_tensors(weights, network.state_dict())
    state = {name: torch.from_numpy(values) for name, values in tensors.items()}
    network.load_state_dict(state, assign=True)
    card = weights.card
    network = prepare(network, precision, runtime.device, fused=not runtime.compile)
    return VideoNetwork(network, card.mean, card.std, precision, runtime, sizes)
