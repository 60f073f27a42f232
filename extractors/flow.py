"""Extractor `flow`: dense optical flow, kept like pixels for detectors that read windows of it.

A frame of 256 x 256 takes 262 kB. As for `frames`, a run states the number of bytes first, and the
user must allow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)
from torch import Tensor

from .base import ArraySpec, Config, Precision, Rows, Runtime, one_row_each
from .clips import Clip, ClipRule
from .device.inference import resized
from .errors import ExtractorError
from .footage.resizing import Resize
from .network_extractor import NetworksExtractor
from .networks import raft
from .optical_flow import Method, SpanName, flow_of, grey_frames, scaled, usual_scale
from .weights.cards import ResolvedWeights
from .weights.slots import NETWORK, Slots


class FlowConfig(Config):
    """Settings of `flow`.

    Attributes:
        method: "dis", "tvl1" and "farneback" are OpenCV's; "raft" and "raft_small" are networks.
        span: "next" is the flow from a frame to the next one; the last frame repeats the flow
            before it. "around" is the flow from the frame before to the frame after, halved.
        size: (height, width) that frames are resized to, without regard to their aspect; flow is
            in pixels of this size.
        scale: OpenCV's methods compute flow on frames of this many times the size. None: see
            `usual_scale`; the recipe states the number.
        stride: frames from one row to the next.
        dtype: type of the stored flow.
    """

    method: Literal[Method, raft.Variant] = "dis"
    span: SpanName = "next"
    size: tuple[PositiveInt, PositiveInt] = (256, 256)
    scale: PositiveFloat | None = Field(default=None, validate_default=True)
    stride: PositiveInt = 1
    dtype: Literal["float16", "float32"] = "float16"

    @field_validator("scale")
    @classmethod
    def _settled(cls, value: float | None, info: ValidationInfo) -> float | None:
        # A method or a size that was refused is missing here, and is reported for itself.
        if value is not None or not {"method", "size"} <= set(info.data):
            return value
        network = info.data["method"] in get_args(raft.Variant)
        return 1.0 if network else usual_scale(info.data["size"])

    @property
    def factor(self) -> float:
        """The scale, settled."""
        assert self.scale is not None  # by `_settled`
        return self.scale

    @model_validator(mode="after")
    def _size_fits_the_method(self) -> Self:
        if self.method in get_args(raft.Variant):
            if self.factor != 1:
                raise ValueError(f"{self.method} computes at the size itself: leave scale at 1")
            if min(self.size) < raft.SMALLEST or any(side % raft.MULTIPLE for side in self.size):
                raise ValueError(
                    f"{self.method} takes sizes from {raft.SMALLEST} on that are multiples of "
                    f"{raft.MULTIPLE}, not {self.size}"
                )
            return self
        try:
            scaled(self.size, self.factor)
        except ExtractorError as error:
            raise ValueError(str(error)) from error
        return self


class Flow(NetworksExtractor[FlowConfig]):
    """One field a row: (height, width, 2), pixels a frame to the right, and down."""

    name: ClassVar[str] = "flow"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = FlowConfig
    networks: ClassVar[Slots] = {NETWORK: tuple(c for cards in raft.CARDS.values() for c in cards)}
    # The recipe that was measured for object speeds on UCSD Ped2, at its size.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "ped2_around": {"span": "around", "size": (240, 360), "scale": 1.5}
    }
    keeps_pixels: ClassVar[bool] = True
    batch_size: ClassVar[int] = 16
    gpu_batch_size: ClassVar[int] = 32

    def __init__(
        self,
        config: FlowConfig,
        *,
        weights: Mapping[str, ResolvedWeights] | None = None,
        precision: Precision = "fp32",
    ) -> None:
        # RAFT adds up small steps and looks up correlations at their sum: always in fp32.
        super().__init__(config, weights=weights, precision="fp32")
        self._pool: ThreadPoolExecutor | None = None

    @classmethod
    def networks_for(cls, config: FlowConfig) -> Slots:
        """Return the cards of RAFT; OpenCV's methods have no network."""
        return {} if config.method not in raft.CARDS else {NETWORK: raft.CARDS[config.method]}

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """One array of fields."""
        dims = ("frame", "row", "column", "direction")
        return (ArraySpec("flow", self.config.dtype, dims, (*self.config.size, 2), role="flow"),)

    @property
    def clip_rule(self) -> ClipRule:
        """Single frames with a neighbour on either side: the last frame looks back."""
        return ClipRule(1, self.config.stride, before=1, after=1)

    def resize_first(self, height: int, width: int) -> Resize:
        """The size that flow is computed at."""
        config = self.config
        return Resize(*(config.size if self.weights else scaled(config.size, config.factor)))

    def build_network(self, slot: str) -> raft.Raft:
        """Build RAFT."""
        assert self.config.method in raft.CARDS  # else there is no slot
        return raft.Raft(self.config.method)

    def load(self, runtime: Runtime) -> None:
        """Put the network on the device; OpenCV's methods get threads for several frames at once.

        Raises:
            WeightsError: the weights are damaged.
        """
        if self.weights:
            super().load(runtime)
        elif (runtime.threads or 1) > 1:
            self._pool = ThreadPoolExecutor(runtime.threads, thread_name_prefix="flow")

    def extract(self, clips: Sequence[Clip]) -> dict[str, Rows]:
        """Compute "flow", (n, height, width, 2) float32.

        Raises:
            ExtractorError: the method is a network, and `load` was not called.
        """
        pairs, steps = zip(*(_two_frames(clip, self.config.span) for clip in clips), strict=True)
        flow = self._arrays(pairs)["flow"] if self.weights else self._by_opencv(pairs)
        # A video of one frame has no flow: zero, exactly.
        factors = np.array([1 / n if n else 0 for n in steps], np.float32)
        return {"frame": one_row_each(clips, {"flow": flow * factors[:, None, None, None]})}

    def rows_of(self, networks: Mapping[str, Any], videos: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the flow of pairs of frames (2, H, W, 3)."""
        flow: Tensor = networks[NETWORK].features(resized(videos, self.config.size))
        return {"flow": flow.permute(0, 2, 3, 1)}

    def _by_opencv(self, pairs: Sequence[Clip]) -> NDArray[np.float32]:
        config = self.config
        assert config.method != "raft" and config.method != "raft_small"
        method: Method = config.method
        at = scaled(config.size, config.factor)
        grey = [grey_frames(pair.frames, at) for pair in pairs]
        run = map if self._pool is None else self._pool.map
        return np.stack(list(run(lambda two: flow_of(two[0], two[1], method, config.size), grey)))

    def flops(self, height: int, width: int) -> float:
        """Count multiply-adds times two of RAFT for one pair; OpenCV's methods are not counted."""
        if self.config.method not in raft.CARDS:
            return 0.0
        return raft.flops(self.config.method, *self.config.size)

    def recipe(self) -> dict[str, Any]:
        """Add to the recipe what happens to the pixels."""
        resize = "bilinear, antialias, uint8"
        if self.weights:
            return super().recipe()
        return {**super().recipe(), "pixels": {"colour": "grey of RGB", "resize": resize}}


def _two_frames(clip: Clip, span: SpanName) -> tuple[Clip, int]:
    """The two frames of a clip that flow is computed between, and the steps between them.

    A clip holds the frame before, the frame itself and the frame after; at the ends of a video one
    of them is the frame itself again.
    """
    before, here, after = (int(i) for i in clip.index)
    forward = [1, 2] if after != here else [0, 1]
    places = forward if span == "next" else [0, 2]
    inner = (before != here) + (after != here)
    steps = min(inner, 1) if span == "next" else inner
    return replace(clip, frames=clip.frames[places], index=clip.index[places]), steps
