"""Samples of SSMTL: which objects train and which validate, their sequences, and random gaps.

What is drawn depends on the seed and the number of the batch only, so a resumed fit draws the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .base import DetectorError
from .msmg_samples import Proxies
from .row_memory import RowMemory
from .ssmtl_pairs import Partners, cut_pairs

Ints = NDArray[np.int64]

STEPS = (2, 5)  # from one frame of an irregular sequence to the next: 1 to 4 frames are skipped
# Streams of random numbers.
_ORDER, _GAPS, _VALIDATION, _PAIRS, _VALIDATION_PAIRS = range(5)


@dataclass(frozen=True)
class Places:
    """Where objects are, or frames, and how many frames their sequences may use.

    Attributes:
        video: (n,) indices of videos.
        row: (n,) rows within the video.
        before: (n,) frames before that belong to the same part of the video.
        after: (n,) frames after.
        partners: the other objects that pairs of clips show; None where no pairs are drawn.
    """

    video: Ints
    row: Ints
    before: Ints
    after: Ints
    partners: Partners | None = None

    def __len__(self) -> int:
        return len(self.video)

    def take(self, chosen: NDArray[np.bool_] | Ints) -> Places:
        """Some of the places, without partners: those are counted among all."""
        before, after = self.before[chosen], self.after[chosen]
        return Places(self.video[chosen], self.row[chosen], before, after)

    def spread(self, most: int) -> Places:
        """At most this many places, evenly spread."""
        if len(self) <= most:
            return self
        return self.take(np.arange(most, dtype=np.int64) * len(self) // most)


def split_places(
    frames: Sequence[Ints], bounds: Sequence[tuple[int, int]], validation: float, need: int
) -> tuple[Places, Places]:
    """Divide the objects of each video by their frames (Sect. 4.2).

    Sequences of training objects end before the validation frames. Those of validation objects may
    begin before them, but their own frame and all later ones are new.

    Args:
        frames:
            Of each video, (n,) the frame of each row.
        bounds:
            Of each video, its first frame and one past its last.
        validation:
            Share of the frames, the last ones.
        need:
            Frames that a sequence needs before and after; objects without them are left out.

    Returns:
        Places that train, and places that validate.
    """
    parts: tuple[list[Places], list[Places]] = ([], [])
    for video, (frame, (first, stop)) in enumerate(zip(frames, bounds, strict=True)):
        border = first + round((1 - validation) * (stop - first))
        row = np.arange(len(frame), dtype=np.int64)
        every = Places(np.full(len(frame), video, np.int64), row, frame - first, frame)
        for part, inside, last in (
            (parts[0], frame < border, border - 1),
            (parts[1], frame >= border, stop - 1),
        ):
            placed = replace(every, after=last - frame)
            part.append(placed.take(inside & (placed.before >= need) & (placed.after >= need)))
    training, validating = (
        Places(
            np.concatenate([p.video for p in part]),
            np.concatenate([p.row for p in part]),
            np.concatenate([p.before for p in part]),
            np.concatenate([p.after for p in part]),
        )
        for part in parts
    )
    return training, validating


def irregular_offsets(random: np.random.Generator, before: Ints, after: Ints, t: int) -> Ints:
    """Draw intermittent frames around the middle one (Sect. 3.3, task 2).

    Each step is drawn by itself. What does not fit into the room is drawn again.

    Args:
        random:
            Where the steps come from.
        before:
            (n,) frames of room, at least 2 t.
        after:
            (n,) the same.
        t:
            Frames on each side.

    Returns:
        (n, 2 t + 1), ascending, 0 in the middle.
    """
    earlier, later = (_cumulated(random, room, t) for room in (before, after))
    middle = np.zeros((len(before), 1), np.int64)
    return np.concatenate([-earlier[:, ::-1], middle, later], axis=1)


def _cumulated(random: np.random.Generator, room: Ints, t: int) -> Ints:
    def drawn(count: int) -> Ints:
        return random.integers(STEPS[0], STEPS[1] + 1, size=(count, t))

    steps = drawn(len(room))
    while (over := steps.sum(1) > room).any():
        steps[over] = drawn(int(over.sum()))
    return np.asarray(steps.cumsum(1), np.int64)


class Sequences(ABC):
    """Pictures around an object or a frame.

    Args:
        memory:
            Of the role that has them.
    """

    def __init__(self, memory: RowMemory) -> None:
        self.memory = memory

    @abstractmethod
    def read(self, places: Places, offsets: Ints) -> Tensor:
        """Read the frames at these offsets: (B,), (B, K) -> (B, K, S, S, 3) uint8 on the device."""


class CropSequences(Sequences):
    """Rows are objects; each has its own box in all frames around it."""

    def read(self, places: Places, offsets: Ints) -> Tensor:
        """Take frames out of the row of each object."""
        crops = self.memory.read(places.video, places.row, 1)[:, 0]
        index = torch.from_numpy(offsets + crops.shape[1] // 2).to(crops.device)
        return crops[torch.arange(len(crops), device=crops.device)[:, None], index]


class FrameSequences(Sequences):
    """Rows are whole frames."""

    def read(self, places: Places, offsets: Ints) -> Tensor:
        """Read the rows around each frame."""
        rows = (places.row[:, None] + offsets).reshape(-1)
        found = self.memory.read(np.repeat(places.video, offsets.shape[1]), rows, 1)
        return found.reshape(*offsets.shape, *found.shape[2:])


@dataclass(frozen=True)
class Batch:
    """Sequences of B objects.

    Attributes:
        regular: (B, 2 t + 1, S, S, 3) uint8, consecutive frames.
        irregular: the same shape, with gaps; None without that task.
        targets: (B, n) float32, what the teachers say; None without distillation.
        pairs: clips with a missing frame and others; None without the tasks of MSMG.
    """

    regular: Tensor
    irregular: Tensor | None
    targets: Tensor | None
    pairs: Proxies | None = None


@dataclass(frozen=True)
class Samples:
    """Batches of objects.

    Attributes:
        sequences: where pictures come from.
        teachers: rows that are joined to the targets of distillation; empty without it.
        t: frames on each side.
        irregular: whether sequences with gaps are needed.
        seed: of the fit.
        groups: (V,) group of each video, whose objects are no negatives of each other; None
            without the tasks of MSMG.
    """

    sequences: Sequences
    teachers: Sequence[RowMemory]
    t: int
    irregular: bool
    seed: int
    groups: Ints | None = None

    def drawn(self, places: Places, size: int, draw: int) -> Batch:
        """Draw a training batch: all objects in a random order, then all of them in another one."""
        number = np.arange(draw * size, (draw + 1) * size)
        turn, at = np.divmod(number, len(places))
        chosen = np.empty(size, np.int64)
        for one in np.unique(turn):
            order = np.random.default_rng([self.seed, _ORDER, one]).permutation(len(places))
            chosen[turn == one] = order[at[turn == one]]
        gaps = np.random.default_rng([self.seed, _GAPS, draw])
        batch = self._batch(places.take(chosen), gaps)
        return self._paired(batch, places, chosen, [self.seed, _PAIRS, draw])

    def in_order(self, places: Places, size: int) -> Iterator[Batch]:
        """Yield all places; their gaps are the same each time."""
        for number, first in enumerate(range(0, len(places), size)):
            chosen = np.arange(first, min(first + size, len(places)))
            gaps = np.random.default_rng([self.seed, _VALIDATION, number])
            batch = self._batch(places.take(chosen), gaps)
            yield self._paired(batch, places, chosen, [self.seed, _VALIDATION_PAIRS, number])

    def targets(self, places: Places) -> Tensor | None:
        """(B, n) float32: what the teachers say."""
        if not self.teachers:
            return None
        said = [memory.read(places.video, places.row, 1)[:, 0] for memory in self.teachers]
        return torch.cat([each.float() for each in said], dim=1)

    def _batch(self, places: Places, random: np.random.Generator) -> Batch:
        length = 2 * self.t + 1
        offsets = np.tile(np.arange(-self.t, self.t + 1), (len(places), 1))
        if self.irregular:
            gaps = irregular_offsets(random, places.before, places.after, self.t)
            offsets = np.concatenate([offsets, gaps], axis=1)
        frames = self.sequences.read(places, offsets)
        irregular = frames[:, length:] if self.irregular else None
        return Batch(frames[:, :length], irregular, self.targets(places))

    def _paired(self, batch: Batch, places: Places, chosen: Ints, stream: list[int]) -> Batch:
        """Add pairs of clips for the tasks of MSMG, if there are any."""
        if self.groups is None:
            return batch
        assert places.partners is not None
        random = np.random.default_rng(stream)
        others = places.take(places.partners.draw(chosen, random))
        offsets = np.tile(np.arange(-self.t, self.t + 1), (len(others), 1))
        clips = self.sequences.read(others, offsets)
        groups = self.groups[places.video[chosen]]
        return replace(batch, pairs=cut_pairs(batch.regular, clips, groups, random))


def paired_places(places: Places, t: int) -> Places:
    """Keep the places that have a partner, and their partners; what is left out is one of none."""
    kept = places.take(_partners(places, t).count > 0)
    return replace(kept, partners=_partners(kept, t))


def _partners(places: Places, t: int) -> Partners:
    """Look for the objects that the other clip of a pair may show: none of its frames is shared."""
    return Partners.find(places.video, places.before, 2 * t + 1)


def check_pairs(training: Places, validating: Places, validation: float, t: int) -> None:
    """Refuse videos in which no two objects have clips without a frame in common.

    Raises:
        DetectorError: pairs cannot be drawn.
    """
    what = f"two objects that are {2 * t + 1} or more frames apart, which make a pair of clips"
    if not len(training):
        raise DetectorError(
            f"no training video has {what}: train on longer videos, or leave continuity, "
            "localisation and estimation out of the tasks"
        )
    if validation and not len(validating):
        raise DetectorError(
            f"the last {100 * validation:g} % of no training video have {what}: train on longer "
            "videos, set validation to a larger share, or to 0, which keeps the last weights"
        )


def check_places(training: Places, validating: Places, validation: float, need: int) -> None:
    """Refuse a split without objects.

    Raises:
        DetectorError: the videos are too short, or there are no objects.
    """
    frames = "1 frame" if need == 1 else f"{need} frames"
    what = f"with {frames} before and after it in the same part of its video"
    if not len(training):
        raise DetectorError(
            f"the training videos have no object {what}: train on longer videos, on more of them, "
            "or on objects that were found with a lower score"
        )
    if validation and not len(validating):
        raise DetectorError(
            f"the last {100 * validation:g} % of the training videos have no object {what}: train "
            "on longer videos, set validation to a larger share, or to 0, which keeps the last "
            "weights"
        )
