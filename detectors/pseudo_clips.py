"""Training windows of the autoencoders: normal clips, some of them replaced by pseudo-anomalies.

What a network gets may be a pseudo-anomaly; what it has to return is always the normal clip. A
batch depends on the seed and its number only, so a resumed fit draws the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .base import DetectorError
from .flow_mixup import FlowMixup, Mix, draw_mix, mix_flow
from .reconstruction import scaled_flow, scaled_frames
from .row_memory import RowMemory
from .windows import Picks, WindowSource

SpatialKind = Literal["perturbed", "patch", "skip_frames"]
Partner = Literal["same_video", "other_video"]

SKIPS = (5, 4, 3, 2)  # steps of skip-frame clips (LNTRA), the largest first
PATCH_WEIGHT = 0.5  # of the clip itself inside a mixed patch (LNTRA's "MixUp-patch")
INDICATED = 128  # windows that scales and weights come from, or one a video if there are more
VALIDATION = 1 << 40  # number of the first draw that no training reaches


@dataclass(frozen=True)
class Clips:
    """A batch, as it is stored.

    Attributes:
        normal: (B, T, H, W, C), what the network has to return.
        input: (B, T, H, W, C), what it gets; patches are not mixed in yet.
        others: windows that patches come from, as many as there are mixes.
        mixes: number of a window -> its patch.
        pseudo: (B,) whether the input is a pseudo-anomaly.
    """

    normal: Tensor
    input: Tensor
    others: Tensor | None
    mixes: dict[int, Mix]
    pseudo: NDArray[np.bool_]

    def mixed(self) -> Tensor:
        """The input with its patches: as stored, or float32 where there are any."""
        if self.others is None:
            return self.input
        values = self.input.to(torch.float32, copy=True)  # it may be the normal window itself
        for other, (at, mix) in zip(self.others, self.mixes.items(), strict=True):
            values[at] = mix_flow(values[at], other.float(), mix)
        return values


class ClipSource(ABC):
    """Windows of one autoencoder.

    Args:
        memory:
            Rows of normal footage.
        length:
            T.
        share:
            Probability that a window is replaced by a pseudo-anomaly.
        seed:
            Decides what is drawn.

    Raises:
        DetectorError: no video is as long as a window.
    """

    def __init__(self, memory: RowMemory, length: int, share: float, seed: int) -> None:
        self.memory, self.length, self.share, self.seed = memory, length, share, seed
        self.windows = WindowSource(memory, length, seed=seed)

    @property
    def prefetch(self) -> int:
        """Batches to load ahead."""
        return self.memory.prefetch

    def __len__(self) -> int:
        return len(self.windows)

    def draw(self, count: int, turn: int, share: float | None = None) -> Clips:
        """Draw a batch, uniform over all windows of all videos.

        Args:
            count:
                B.
            turn:
                Number of the draw.
            share:
                Probability of a pseudo-anomaly; None is that of the training.
        """
        return self.at(self.windows.draw(count, turn), turn, share)

    def at(self, picks: Picks, turn: int, share: float | None = None) -> Clips:
        """Read windows at given places; see `draw`."""
        random = np.random.default_rng([self.seed, turn])
        pseudo = random.random(len(picks)) < (self.share if share is None else share)
        return self._replaced(picks, pseudo, random, turn)

    def validation(self, batches: int, count: int, share: float) -> Iterator[Clips]:
        """Yield the same batches each time; no training draws them."""
        for turn in range(VALIDATION, VALIDATION + batches):
            yield self.draw(count, turn, share)

    @abstractmethod
    def scaled(self, windows: Tensor) -> Tensor:
        """Stored windows -> what the network takes, (B, C, T, H, W) in [-1, 1]."""

    @abstractmethod
    def shown(self, pictures: Tensor) -> NDArray[Any]:
        """One frame of each window (B, C, H, W), as the network has it -> see `Sample`."""

    @abstractmethod
    def _replaced(
        self, picks: Picks, pseudo: NDArray[np.bool_], random: np.random.Generator, turn: int
    ) -> Clips:
        """Read the windows of a batch, and replace those that are to be pseudo-anomalies."""

    def _size(self) -> tuple[int, int]:
        height, width = self.memory.rows.shape[:2]
        return height, width


class FrameClips(ClipSource):
    """Windows of frames, with spatial pseudo-anomalies.

    Args:
        memory:
            See `ClipSource`.
        length:
            See `ClipSource`.
        share:
            See `ClipSource`.
        seed:
            See `ClipSource`.
        kinds:
            Of pseudo-anomalies; each has the same probability. "perturbed": the same window of
            the twin. "patch": a patch of another clip, blended half and half. "skip_frames": every
            s-th frame, s from 2 to 5, as far as the video goes.
        twin:
            The same rows of perturbed footage, for the kind "perturbed".
        patches:
            Sizes and movement of patches.
        channels:
            Of the network.

    Raises:
        DetectorError: no video is as long as a window, or the twin has other rows.
    """

    def __init__(
        self,
        memory: RowMemory,
        length: int,
        share: float,
        seed: int,
        *,
        kinds: Sequence[SpatialKind],
        twin: RowMemory | None,
        patches: FlowMixup,
        channels: int,
    ) -> None:
        super().__init__(memory, length, share, seed)
        self._kinds, self._patches, self._channels = tuple(kinds), patches, channels
        self._twin = None
        if twin is not None:
            check_twin(memory, twin)
            self._twin = WindowSource(twin, length, seed=seed)
        self._skipping = {}
        for step in SKIPS if "skip_frames" in kinds else ():
            if memory.rows.counts.max() > (length - 1) * step:
                self._skipping[step] = WindowSource(memory, length, step=step, seed=seed)
        if "skip_frames" in kinds and not self._skipping:
            raise DetectorError(
                f"no video has {(length - 1) * 2 + 1} frames, as skip_frames needs: the longest "
                f"has {memory.rows.counts.max()}; leave it out of the spatial pseudo-anomalies"
            )

    def scaled(self, windows: Tensor) -> Tensor:
        """Frames -> (B, C, T, H, W) in [-1, 1]."""
        return scaled_frames(windows, self._channels)

    def shown(self, pictures: Tensor) -> NDArray[Any]:
        """(B, C, H, W) -> (B, H, W, 3) uint8; one channel is grey."""
        values = ((pictures.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return values.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()

    def _replaced(
        self, picks: Picks, pseudo: NDArray[np.bool_], random: np.random.Generator, turn: int
    ) -> Clips:
        normal = self.windows.read(picks)
        kinds = random.integers(max(1, len(self._kinds)), size=len(picks))
        steps = random.choice(SKIPS, size=len(picks))
        chosen = {kind: np.flatnonzero(pseudo & (kinds == i)) for i, kind in enumerate(self._kinds)}
        inputs = normal.clone() if pseudo.any() else normal
        pseudo = pseudo.copy()
        none = np.zeros(0, np.int64)
        if self._twin is not None and len(at := chosen.get("perturbed", none)):
            inputs[torch.from_numpy(at).to(inputs.device)] = self._twin.read(_some(picks, at))
        for i in chosen.get("skip_frames", none):
            pick = _some(picks, np.array([i]))
            fitting = [s for s, w in self._skipping.items() if s <= steps[i] and w.fits(pick)[0]]
            pseudo[i] = bool(fitting)  # at the end of a video there may be no room
            if fitting:
                inputs[i] = self._skipping[fitting[0]].read(pick)[0]
        at = chosen.get("patch", none)
        others = self.windows.read(self._others(len(at), random)) if len(at) else None
        mixes = {
            int(i): replace(
                draw_mix(random, self.length, *self._size(), self._patches), weight=PATCH_WEIGHT
            )
            for i in at
        }
        return Clips(normal, inputs, others, mixes, pseudo)

    def _others(self, count: int, random: np.random.Generator) -> Picks:
        """Windows of all videos, drawn apart from those of the batch."""
        return self.windows.draw(count, int(random.integers(1 << 62)))


class FlowClips(ClipSource):
    """Windows of flow, with temporal pseudo-anomalies: mixup of patches.

    Args:
        memory:
            See `ClipSource`.
        length:
            See `ClipSource`.
        share:
            See `ClipSource`.
        seed:
            See `ClipSource`.
        mixup:
            See `FlowMixup`.
        partner:
            Where the other patch comes from.
        channels:
            Of the network.
        limit:
            Pixels a frame that are scaled to 1.

    Raises:
        DetectorError: no video is as long as a window, or patches of another video are wanted and
            there is only one.
    """

    def __init__(
        self,
        memory: RowMemory,
        length: int,
        share: float,
        seed: int,
        *,
        mixup: FlowMixup,
        partner: Partner,
        channels: int,
        limit: float,
    ) -> None:
        super().__init__(memory, length, share, seed)
        self._mixup, self._partner = mixup, partner
        self._channels, self._limit = channels, limit
        if partner == "other_video" and share > 0:
            # of every video that has a window, or a later draw would fail
            having = np.flatnonzero(memory.rows.counts >= length)
            try:
                self.windows.negatives(Picks(having, np.zeros_like(having)), 0, by="video")
            except DetectorError as error:
                raise DetectorError(
                    f"{error}: mix flow of the same video (partner = same_video), or train on more "
                    "videos"
                ) from error

    def scaled(self, windows: Tensor) -> Tensor:
        """Flow -> (B, C, T, H, W) in [-1, 1]."""
        return scaled_flow(windows, self._channels, self._limit)

    def shown(self, pictures: Tensor) -> NDArray[Any]:
        """(B, C, H, W) -> (B, H, W, 2) pixels a frame."""
        return (pictures[:, :2].float() * self._limit).permute(0, 2, 3, 1).cpu().numpy()

    def _replaced(
        self, picks: Picks, pseudo: NDArray[np.bool_], random: np.random.Generator, turn: int
    ) -> Clips:
        normal = self.windows.read(picks)
        at = np.flatnonzero(pseudo)
        if not len(at):
            return Clips(normal, normal, None, {}, pseudo)
        mixes = {int(i): draw_mix(random, self.length, *self._size(), self._mixup) for i in at}
        chosen = _some(picks, at)
        if self._partner == "other_video":
            others = self.windows.negatives(chosen, turn, by="video")
        else:
            places = self.memory.rows.counts[chosen.video] - self.length + 1
            others = Picks(chosen.video, random.integers(places).astype(np.int64))
        return Clips(normal, normal, self.windows.read(others), mixes, pseudo)


def spread(windows: WindowSource, count: int) -> Iterator[Picks]:
    """Yield about `INDICATED` windows in order, but at least one of each video."""
    return windows.in_order(count, stride=max(1, len(windows) // INDICATED))


def check_motion(windows: WindowSource, picks: Iterable[Picks]) -> None:
    """Check that some of these windows of flow is not 0.

    Raises:
        DetectorError: all of it is 0, so that no error of flow can be called large or small.
    """
    if not any(bool(windows.read(each).any()) for each in picks):
        raise DetectorError(
            "nothing moves in the training footage: its flow is 0 in all windows that were looked "
            "at; train on footage with motion, or leave flow out: eta = [1, 0, 0] for frames alone"
        )


def check_twin(memory: RowMemory, twin: RowMemory) -> None:
    """Check that perturbed features have the rows and the shape of the footage's.

    Raises:
        DetectorError: they have not.
    """
    ours, theirs = memory.rows, twin.rows
    if ours.shape != theirs.shape:
        raise DetectorError(
            f"{theirs.role} are {theirs.shape}, {ours.role} {ours.shape}: perturbed and normal "
            "footage take the same way, so extract both with the same settings"
        )
    for name, own, other in zip(ours.video_ids, ours.counts, theirs.counts, strict=True):
        if own != other:
            raise DetectorError(
                f"video {name!r} has {own} rows of {ours.role}, but {other} of {theirs.role}: "
                "extract both with the same stride"
            )


def _some(picks: Picks, at: NDArray[np.int64]) -> Picks:
    return Picks(picks.video[at], picks.start[at])
