"""Decoded frames, resized: for detectors that look at pixels again and again.

197 kB a frame of 256 x 256: Ped2 is 0.9 GB, ShanghaiTech 62 GB, UCF-Crime 2.7 TB. Nothing else
keeps pixels, and a run that would says how many bytes and wants them allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import PositiveInt

from .base import ArraySpec, Config, Extractor, Runtime
from .clips import Clip, ClipRule
from .device.resize import Interpolation, resize_frames


class FramesConfig(Config):
    """Settings of `frames`.

    Attributes:
        size: (height, width) that frames are resized to, whatever their aspect.
        stride: frames from one row to the next.
        interpolation: of the resizing.
    """

    size: tuple[PositiveInt, PositiveInt] = (256, 256)  # as LNTRA's code
    stride: PositiveInt = 1
    interpolation: Interpolation = "bilinear"


class Frames(Extractor[FramesConfig]):
    """One picture a row: (height, width, 3) uint8 RGB."""

    name: ClassVar[str] = "frames"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = FramesConfig
    keeps_pixels: ClassVar[bool] = True
    batch_size: ClassVar[int] = 64

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """The pictures."""
        dims = ("frame", "row", "column", "channel")
        return (ArraySpec("frames", "uint8", dims, (*self.config.size, 3), role="pixels"),)

    @property
    def clip_rule(self) -> ClipRule:
        """Single frames without context."""
        return ClipRule(1, self.config.stride)

    def load(self, runtime: Runtime) -> None:
        """Nothing to load: resizing is cheaper than the way to a device and back."""

    def extract(self, clips: Sequence[Clip]) -> dict[str, NDArray[Any] | pa.Table]:
        """Pictures (n, height, width, 3) uint8."""
        import torch  # takes seconds

        frames = torch.from_numpy(np.concatenate([clip.frames for clip in clips]))
        return {
            "frames": resize_frames(frames, self.config.size, self.config.interpolation).numpy()
        }

    def recipe(self) -> dict[str, Any]:
        """Also what happens to the pixels."""
        pixels = {"colour": "RGB", "resize": f"{self.config.interpolation}, antialias, uint8"}
        return {**super().recipe(), "pixels": pixels}
