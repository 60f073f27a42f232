"""Seeded perturbations of clips: what an extractor sees instead of the frames as they are.

A perturbation is a function of its settings, the content id of the video and the numbers of the
frames. It draws no state from one clip to the next, so a span holds the same values in every worker
process, and with every span size and batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from .base import Config
from .clips import Clip, ClipRule
from .draws import Draws

Kind = Literal["noise", "patch_mix", "skip_frames"]
DEFAULT_STRENGTH: dict[str, float] = {"noise": 0.1, "patch_mix": 0.5, "skip_frames": 5.0}


class Perturbation(Config):
    """Settings of a perturbation; part of the key of the features that are made with it.

    Attributes:
        kind: "noise" adds uniform noise to every value of a frame. "patch_mix" blends a random
            rectangle of a frame, half and half, with another rectangle of the same frame (the
            within-frame form of LNTRA's MixUp-patch). "skip_frames" shows every s-th frame, with s
            drawn for each clip (LNTRA's skip-frame).
        strength: of noise: the largest change as a share of 255; of patch_mix: the longest side of
            the rectangle as a share of the frame's; both in (0, 1]. Of skip_frames: the largest s,
            a whole number from 2 on. The defaults are 0.1, 0.5 and 5.
        seed: of everything that is drawn.
    """

    kind: Kind
    strength: float = Field(default=0.0, ge=0.0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _fill_strength(cls, values: Any) -> Any:
        """Fill in the default of the kind, so that the key states it."""
        if isinstance(values, dict) and values.get("strength") is None:
            return {**values, "strength": DEFAULT_STRENGTH.get(str(values.get("kind")), 0.0)}
        return values

    @model_validator(mode="after")
    def _strength_suits_the_kind(self) -> Self:
        if self.kind == "skip_frames":
            if self.strength < 2 or self.strength != int(self.strength):
                raise ValueError(
                    f"skip_frames takes a whole strength from 2 on, not {self.strength}"
                )
        elif not 0 < self.strength <= 1:
            raise ValueError(f"{self.kind} takes a strength in (0, 1], not {self.strength}")
        return self

    def widened(self, rule: ClipRule) -> ClipRule:
        """Return the rule by which clips are cut before they are perturbed.

        Every s-th frame reaches beyond the clip, so skip_frames needs more context on both sides.
        The starts and the number of clips stay the same.
        """
        if self.kind != "skip_frames":
            return rule
        step = int(self.strength)
        reach = (rule.length - 1 + rule.after) * step  # from the first frame of the clip proper
        return replace(rule, before=rule.before * step, after=max(0, reach - rule.length + 1))

    def apply(self, clip: Clip, content_id: str, rule: ClipRule) -> Clip:
        """Perturb a clip.

        Args:
            clip:
                Cut by `widened(rule)`.
            content_id:
                Of its video.
            rule:
                Of the extractor.

        Returns:
            A clip as `rule` cuts it: (before + length + after, H, W, 3) frames.
        """
        if self.kind == "skip_frames":
            return self._skipped(clip, content_id, rule)
        change = self._noisy if self.kind == "noise" else self._mixed
        done: dict[int, NDArray[np.uint8]] = {}  # tails and borders repeat frames
        for index, frame in zip(clip.index.tolist(), clip.frames, strict=True):
            if index not in done:
                done[index] = change(frame, content_id, index)
        return replace(clip, frames=np.stack([done[index] for index in clip.index.tolist()]))

    def _noisy(self, frame: NDArray[np.uint8], content_id: str, index: int) -> NDArray[np.uint8]:
        drawn = self._words(content_id, index, -(-frame.size // 8)).astype("<u8").view(np.uint8)
        most = self.strength * 255
        shift = (drawn[: frame.size].reshape(frame.shape) / 255.0 * 2 - 1) * most
        return np.clip(np.rint(frame + shift), 0, 255).astype(np.uint8)

    def _mixed(self, frame: NDArray[np.uint8], content_id: str, index: int) -> NDArray[np.uint8]:
        drawn = self._words(content_id, index, 6).tolist()
        size = [
            1 + n % max(1, int(self.strength * side))
            for n, side in zip(drawn[:2], frame.shape[:2], strict=True)
        ]
        here, there = (_place(words, size, frame.shape) for words in (drawn[2:4], drawn[4:6]))
        mixed = frame.copy()
        mean = (frame[here].astype(np.uint16) + frame[there] + 1) // 2
        mixed[here] = mean.astype(np.uint8)
        return mixed

    def _skipped(self, clip: Clip, content_id: str, rule: ClipRule) -> Clip:
        most = int(self.strength)
        step = 2 + int(self._words(content_id, clip.frame_start, 1)[0]) % (most - 1)
        core = rule.before * most  # where the first frame of the clip proper is
        places = np.arange(-rule.before, rule.length + rule.after) * step + core
        return replace(
            clip, frames=clip.frames[places], index=clip.index[places], pts=clip.pts[places]
        )

    def _words(self, content_id: str, index: int, n: int) -> NDArray[np.uint64]:
        return Draws(self.kind, self.seed, content_id, index).words(n)


def _place(
    words: Sequence[int], size: Sequence[int], shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """A rectangle of (rows, columns) somewhere in a frame, by two random numbers."""
    top, left = (
        word % (side - length + 1) for word, side, length in zip(words, shape, size, strict=False)
    )
    return slice(top, top + size[0]), slice(left, left + size[1])
