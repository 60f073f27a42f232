"""Extractor `frames`: resized pictures, for detectors that read pixels many times.

A frame of 256 x 256 takes 197 kB: Ped2 takes 0.9 GB, ShanghaiTech 62 GB and UCF-Crime 2.7 TB.
Only `perturb` and `flow` store as much. A run states the number of bytes first, and the user must
allow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveInt

from .base import ArraySpec, Config, Extractor, Rows, Runtime, one_row_each
from .clips import Clip, ClipRule
from .device.pixels import tensor_of
from .device.resize import Interpolation, resize_frames
from .footage.resizing import Resize


class FramesConfig(Config):
    """Settings of `frames`.

    Attributes:
        size: (height, width) that frames are resized to, without regard to their aspect; the
            default is that of LNTRA's code.
        stride: frames from one row to the next.
        interpolation: filter of the resizing.
    """

    size: tuple[PositiveInt, PositiveInt] = (256, 256)
    stride: PositiveInt = 1
    interpolation: Interpolation = "bilinear"


class Frames(Extractor[FramesConfig]):
    """One picture a row: (height, width, 3) uint8 RGB."""

    name: ClassVar[str] = "frames"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = FramesConfig
    keeps_pixels: ClassVar[bool] = True
    pixel_array: ClassVar[str | None] = "frames"
    batch_size: ClassVar[int] = 64

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """One array of pictures."""
        dims = ("frame", "row", "column", "channel")
        return (ArraySpec("frames", "uint8", dims, (*self.config.size, 3), role="pixels"),)

    @property
    def clip_rule(self) -> ClipRule:
        """Single frames without context."""
        return ClipRule(1, self.config.stride)

    def resize_first(self, height: int, width: int) -> Resize:
        """The size of the rows."""
        return Resize(*self.config.size, self.config.interpolation)

    def load(self, runtime: Runtime) -> None:
        """Do nothing: resizing on the CPU costs less than the transfer to a device."""

    def extract(self, clips: Sequence[Clip]) -> dict[str, Rows]:
        """Resize the clips of one frame each: "frames", (n, height, width, 3) uint8."""
        size, kind = self.config.size, self.config.interpolation
        resized = [resize_frames(tensor_of(clip.frames), size, kind).numpy() for clip in clips]
        return {"frame": one_row_each(clips, {"frames": np.concatenate(resized)})}

    def recipe(self) -> dict[str, Any]:
        """Add to the recipe what happens to the pixels."""
        pixels = {"colour": "RGB", "resize": f"{self.config.interpolation}, antialias, uint8"}
        return {**super().recipe(), "pixels": pixels}
