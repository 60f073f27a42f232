"""Batches of the three tasks of MSMG: clips with and without a missing frame, and that frame.

What is drawn depends on the seed and the number of the draw only. Clips are cut on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .base import DetectorError
from .row_memory import RowMemory
from .windows import Group, Picks, WindowSource

NegativesBy = Literal["scene", "video", "none"]

VALIDATION = 1 << 40  # number of the first draw that no training reaches
# Streams of random numbers; `WindowSource` has its own from 0 on.
_PLACES, _CLIP_PLACES = 17, 18


@dataclass(frozen=True)
class Proxies:
    """A batch of the three tasks, as pixels are stored.

    Attributes:
        broken: (B, T - 1, H, W, 3), clips without one of their inner frames (V_d).
        whole: (B, T or T - 1, H, W, 3), other clips of the same videos (V_c).
        missing: (B, 1, H, W, 3), the frames that `broken` lacks (I_m).
        place: (B,) int64, the missing frame: 0 is the second frame of the clip, T - 3 the last but
            one.
        same: (B, B) bool, True where two are of one scene: no negatives of each other.
        scene: (B,) int64, number of the scene.
    """

    broken: Tensor
    whole: Tensor
    missing: Tensor
    place: Tensor
    same: Tensor
    scene: Tensor


@dataclass(frozen=True)
class Broken:
    """Clips that lack a frame, and that frame, as pixels are stored.

    Attributes:
        broken: (B, T - 1, H, W, 3), clips without one of their inner frames (V_d).
        missing: (B, 1, H, W, 3), the frames that they lack (I_m).
    """

    broken: Tensor
    missing: Tensor


def negatives_for(
    asked: NegativesBy, scenes: Sequence[object], videos: Sequence[object]
) -> NegativesBy:
    """What negatives can be told apart by.

    Args:
        asked:
            "scene" becomes "video" where all are of one scene, "video" becomes "none" where there
            is one video.
        scenes:
            Of each video.
        videos:
            The videos.
    """
    if asked == "scene" and len(set(scenes)) == 1:
        asked = "video"
    return "none" if asked == "video" and len(set(videos)) == 1 else asked


def without(clips: Tensor, missing: Tensor) -> Tensor:
    """Leave out one frame of each clip: (B, T, ...) and (B,) int64 -> (B, T - 1, ...)."""
    kept = torch.arange(clips.shape[1] - 1, device=clips.device)[None]
    kept = kept + (kept >= missing[:, None]).long()
    return clips[torch.arange(len(clips), device=clips.device)[:, None], kept]


class ClipSamples:
    """Draws clips that lack a frame, uniform over all clips of all videos.

    Args:
        memory:
            Pictures, (H, W, 3) a row.
        length:
            T, frames of a clip.
        seed:
            Decides what is drawn.

    Raises:
        DetectorError: no video has that many frames.
    """

    def __init__(self, memory: RowMemory, length: int, *, seed: int = 0) -> None:
        self._windows = WindowSource(memory, length, seed=seed)
        self._length, self._seed = length, seed

    def draw(self, count: int, turn: int) -> Broken:
        """Draw `count` clips; the same turn draws the same."""
        clips = self._windows.read(self._windows.draw(count, turn))
        random = np.random.default_rng([self._seed, _CLIP_PLACES, turn])
        at = torch.from_numpy(random.integers(1, self._length - 1, size=count)).to(clips.device)
        missing = clips[torch.arange(count, device=clips.device), at][:, None]
        return Broken(without(clips, at), missing)


class ProxySamples:
    """Draws batches from the rows of all videos.

    Args:
        memory:
            Pictures, (H, W, 3) a row.
        length:
            T, frames of a clip.
        equal_length:
            Leave out the first or the last frame of V_c, so that the number of frames does not
            tell the two classes of task 1 apart.
        negatives:
            What has to differ in two that are negatives of each other in task 3; "scene" becomes
            "video" where all are of one scene. "none": no negatives.
        gap:
            Most frames between the two clips; None: any number.
        seed:
            Decides what is drawn.

    Raises:
        DetectorError: no video has two clips that do not overlap.
    """

    def __init__(
        self,
        memory: RowMemory,
        length: int,
        *,
        equal_length: bool = True,
        negatives: NegativesBy = "scene",
        gap: int | None = None,
        seed: int = 0,
    ) -> None:
        self.windows = WindowSource(memory, length, seed=seed)
        self.length = length
        self._equal_length, self._seed = equal_length, seed
        self._most = None if gap is None else length + gap
        if not (memory.rows.counts >= 2 * length).any():
            raise DetectorError(
                f"a clip of {length} frames and another one beside it take {2 * length} frames of "
                f"one video: the longest has {int(memory.rows.counts.max())}; set a smaller length"
            )
        videos = np.flatnonzero(memory.rows.counts >= 2 * length)
        self.negatives = negatives_for(
            negatives, self.windows.groups("scene")[videos].tolist(), videos.tolist()
        )

    def draw(self, count: int, turn: int) -> Proxies:
        """Draw a batch of `count` pairs of clips; the same turn draws the same."""
        broken, whole = self.windows.pairs(count, turn, most=self._most)
        random = np.random.default_rng([self._seed, _PLACES, turn])
        missing = random.integers(1, self.length - 1, size=count)
        first = random.integers(2, size=count)
        clips, others = self.windows.read(broken), self.windows.read(whole)
        device = clips.device
        at = torch.from_numpy(missing).to(device)
        if self._equal_length:
            dropped = torch.from_numpy(np.where(first, 0, self.length - 1)).to(device)
            others = without(others, dropped)
        return Proxies(
            without(clips, at),
            others,
            clips[torch.arange(count, device=device), at][:, None],
            at - 1,
            torch.from_numpy(self._same(broken)).to(device),
            torch.from_numpy(self.windows.groups("scene")[broken.video]).to(device),
        )

    def without_negatives(self, count: int) -> float:
        """Share of the batches of `count` pairs that are of one scene (or video): expected.

        1 if all batches are, because there are no negatives.
        """
        if self.negatives == "none":
            return 1.0
        weights = self.windows.with_partner(self.length)
        sizes = np.bincount(self.windows.groups(self.negatives), weights=weights)
        return float(((sizes / sizes.sum()) ** count).sum())

    def _same(self, picks: Picks) -> NDArray[np.bool_]:
        if self.negatives == "none":
            return np.ones((len(picks), len(picks)), bool)
        by: Group = self.negatives
        return self.windows.same(picks, picks, by=by)

    def validation(self, pairs: int, count: int) -> Iterator[Proxies]:
        """Draw the same pairs each time, `count` at a time, by numbers that no step has.

        They are of the same videos, so a pair may coincide with one that a step draws.
        """
        for turn, first in enumerate(range(0, pairs, count)):
            yield self.draw(min(count, pairs - first), VALIDATION + turn)
