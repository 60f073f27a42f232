"""Extractor `null`: statistics of colour and motion, for tests and benchmarks of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from .base import ArraySpec, Config, Extractor, Rows, Runtime, one_row_each
from .clips import Clip, ClipRule


class NullConfig(Config):
    """Settings of `null`.

    Attributes:
        clip_length: frames of a clip.
        stride: frames between the starts of two clips.
        tail: "loop" covers every frame; "drop" leaves an incomplete clip out.
        before: context frames before a clip.
        after: context frames after a clip.
    """

    clip_length: int = Field(default=16, ge=1)
    stride: int = Field(default=16, ge=1)
    tail: Literal["loop", "drop"] = "loop"
    before: int = Field(default=1, ge=0)
    after: int = Field(default=1, ge=0)


class NullFeatures(Extractor[NullConfig]):
    """Mean and standard deviation of each colour over a clip, and the change at its two ends.

    A row is (8,) float32: mean RGB, standard deviation RGB, mean absolute difference between the
    first frame and the first context frame, and between the last frame and the last context frame.
    The differences need context on both sides, so tests can prove with this extractor that the size
    of a span changes no value.
    """

    name: ClassVar[str] = "null"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = NullConfig
    clip_copies: ClassVar[float] = 8.0  # float32, twice

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """One row of eight numbers a clip."""
        return (ArraySpec("statistics", "float32", ("snippet", "feature"), (8,), role="snippet"),)

    @property
    def clip_rule(self) -> ClipRule:
        """Clips with context frames."""
        c = self.config
        return ClipRule(c.clip_length, c.stride, c.tail, c.before, c.after)

    def load(self, runtime: Runtime) -> None:
        """Do nothing: there is no network."""

    def extract(self, clips: Sequence[Clip]) -> dict[str, Rows]:
        """Compute the statistics of each clip: "statistics", (n, 8) float32."""
        statistics = np.stack([self._row(clip) for clip in clips])
        return {"snippet": one_row_each(clips, {"statistics": statistics})}

    def _row(self, clip: Clip) -> NDArray[np.float32]:
        frames = clip.frames.astype(np.float32)  # (before + T + after, H, W, 3)
        core = frames[self.config.before : len(frames) - self.config.after]
        ends = [np.abs(core[0] - frames[0]).mean(), np.abs(core[-1] - frames[-1]).mean()]
        row = np.concatenate([core.mean((0, 1, 2)), core.std((0, 1, 2)), ends])
        return row.astype(np.float32)
