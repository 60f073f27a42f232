"""Random windows of rows: pixels, crops or objects, uniform over all videos.

What is drawn depends on the seed and the number of the draw only, so a resumed fit draws the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .base import DetectorError
from .row_memory import RowMemory

Group = Literal["scene", "video"]

# One stream of random numbers for each kind of draw: pairs do not repeat what `draw` has drawn.
_DRAW, _PAIRS, _NEGATIVES, _ROWS = range(4)


@dataclass(frozen=True)
class Picks:
    """Places of windows.

    Attributes:
        video: (B,) int64, indices of videos.
        start: (B,) int64, the first row of each window, within its video.
    """

    video: NDArray[np.int64]
    start: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.video)


class WindowSource:
    """Windows of `length` rows, each from one video.

    Several sources may share a memory: windows of another length or step are read at the same
    picks, as far as they fit.

    Args:
        memory:
            The rows.
        length:
            T, rows of a window.
        step:
            From one row of a window to the next: 3 takes every third row.
        seed:
            Decides what is drawn.

    Raises:
        DetectorError: no video has that many rows.
    """

    def __init__(self, memory: RowMemory, length: int, *, step: int = 1, seed: int = 0) -> None:
        if length < 1 or step < 1:
            raise DetectorError(
                f"windows of {length} rows with step {step}: both must be 1 or more"
            )
        self.memory = memory
        self.length = length
        self.step = step
        self.seed = seed
        self._counts = memory.rows.counts
        self._places = np.maximum(self._counts - self.reach + 1, 0)
        self._ends = np.cumsum(self._places)
        self._row_ends = np.cumsum(self._counts)
        if not len(self):
            most = max(self._counts.tolist(), default=0)
            raise DetectorError(
                f"no video has {self.reach} rows of {memory.rows.role!r}: the longest has {most}; "
                "train on longer videos, or on shorter windows"
            )
        self._groups: dict[Group, _Groups] = {}

    @property
    def reach(self) -> int:
        """Rows from the first to the last of a window, both included."""
        return (self.length - 1) * self.step + 1

    def __len__(self) -> int:
        """Number of windows in all videos."""
        return int(self._ends[-1]) if len(self._ends) else 0

    # -- draws ---------------------------------------------------------------------------------

    def draw(self, count: int, turn: int) -> Picks:
        """Draw windows, uniform over all windows of all videos.

        Args:
            count:
                B.
            turn:
                Number of the draw. The same turn returns the same windows.
        """
        return _place(self._ends, self._random(_DRAW, turn).integers(len(self), size=count))

    def rows(self, count: int, turn: int) -> Picks:
        """Draw single rows, uniform over all rows of all videos; see `read_rows`."""
        drawn = self._random(_ROWS, turn).integers(self._row_ends[-1], size=count)
        return _place(self._row_ends, drawn)

    def pairs(
        self, count: int, turn: int, *, least: int | None = None, most: int | None = None
    ) -> tuple[Picks, Picks]:
        """Draw two windows of one video, so that each video has its share of the windows.

        One is uniform over all windows that have a partner, the other over its partners. Which of
        the two comes first is random: a place in a video does not tell them apart. Uniform over
        pairs would weigh a video by the square of its length.

        Args:
            count:
                B.
            turn:
                Number of the draw.
            least:
                Smallest distance of the first rows; None: windows do not overlap.
            most:
                Largest distance; None: no limit.

        Raises:
            DetectorError: no video has such a pair.
        """
        least = self.reach if least is None else least
        if least < 1 or (most is not None and most < least):
            raise DetectorError(f"no pair of windows is {least} to {most} rows apart")
        ends = np.cumsum(self.with_partner(least))
        if not ends[-1]:
            longest = int(self._counts.max())
            raise DetectorError(
                f"no video has two windows of {self.reach} rows of {self.memory.rows.role!r} that "
                f"begin {least} rows apart: that takes {least + self.reach} rows, the longest has "
                f"{longest}"
            )
        random = self._random(_PAIRS, turn)
        drawn = _place(ends, random.integers(ends[-1], size=count))
        last = self._places[drawn.video] - 1
        # In a short video the windows in the middle have no partner: they are skipped.
        before = np.minimum(last + 1 - least, least)
        skipped = np.maximum(2 * least - (last + 1), 0)
        one = drawn.start + np.where(drawn.start >= before, skipped, 0)
        farthest = last if most is None else np.minimum(last, most)
        below = np.maximum(np.minimum(one, farthest) - least + 1, 0)  # partners before this one
        above = np.maximum(np.minimum(last - one, farthest) - least + 1, 0)
        partner = random.integers(below + above)
        other = np.where(partner < below, one - least - partner, one + least + partner - below)
        turned = random.integers(2, size=count) == 1
        return (
            Picks(drawn.video, np.where(turned, other, one)),
            Picks(drawn.video, np.where(turned, one, other)),
        )

    def with_partner(self, least: int) -> NDArray[np.int64]:
        """(V,) windows of each video that have another one `least` or more rows apart."""
        found: NDArray[np.int64] = np.minimum(self._places, 2 * np.maximum(self._places - least, 0))
        return found

    def negatives(self, picks: Picks, turn: int, *, by: Group = "scene") -> Picks:
        """Draw a window of another scene (or video) for each pick, uniform over all of them.

        Raises:
            DetectorError: all windows are of the scene (or video) of a pick.
        """
        groups = self._grouped(by)
        own = groups.of_video[picks.video]
        others = len(self) - groups.sizes[own]
        if not others.all():
            advice = "; use negatives of other videos (by='video')" if by == "scene" else ""
            raise DetectorError(f"all windows of {self.memory.rows.role!r} are of one {by}{advice}")
        drawn = self._random(_NEGATIVES, turn).integers(others)
        drawn += np.where(drawn >= groups.begins[own], groups.sizes[own], 0)  # skip the own group
        found = _place(groups.ends, drawn)
        return Picks(groups.order[found.video], found.start)

    def same(self, picks: Picks, others: Picks, *, by: Group = "scene") -> NDArray[np.bool_]:
        """(B, B') True where two picks are of one scene (or video): no negatives of each other."""
        of_video = self._grouped(by).of_video
        same: NDArray[np.bool_] = of_video[picks.video][:, None] == of_video[others.video]
        return same

    def groups(self, by: Group = "scene") -> NDArray[np.int64]:
        """(V,) number of the scene (or video) of each video, from 0.

        Videos without a named scene count as one scene: they may show the same place.
        """
        return self._grouped(by).of_video

    def in_order(self, count: int, *, stride: int = 1) -> Iterator[Picks]:
        """Yield windows video by video, `count` at a time; they begin at every stride-th row."""
        ends = np.cumsum(-(-self._places // stride))
        for first in range(0, int(ends[-1]), count):
            found = _place(ends, np.arange(first, min(first + count, int(ends[-1]))))
            yield Picks(found.video, found.start * stride)

    def fits(self, picks: Picks) -> NDArray[np.bool_]:
        """(B,) True where a window of this source may begin at a pick of another source."""
        fits: NDArray[np.bool_] = picks.start < self._places[picks.video]
        return fits

    # -- values --------------------------------------------------------------------------------

    def read(self, picks: Picks) -> Tensor:
        """Read windows: (B, T, ...) on the device, as stored.

        Raises:
            DetectorError: a window reaches over the end of its video, or holds a value that is not
                finite.
        """
        values = self.memory.read(picks.video, picks.start, self.length, self.step)
        return self._finite(values, picks)

    def read_rows(self, picks: Picks) -> Tensor:
        """Read the first row of each pick: (B, ...) on the device, as stored.

        Raises:
            DetectorError: a row holds a value that is not finite.
        """
        return self._finite(self.memory.read(picks.video, picks.start, 1)[:, 0], picks)

    def _finite(self, values: Tensor, picks: Picks) -> Tensor:
        """Check what was read: a network would learn from one NaN that everything is NaN."""
        if values.is_floating_point() and not (finite := values.isfinite()).all():
            first = int((~finite.flatten(1).all(1)).nonzero()[0])
            video = self.memory.rows.video_ids[picks.video[first]]
            raise DetectorError(
                f"video {video!r}: {self.memory.rows.role!r} features are not finite at row "
                f"{picks.start[first]} or soon after: extract or import them again"
            )
        return values

    def _random(self, kind: int, turn: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, kind, turn])

    def _grouped(self, by: Group) -> _Groups:
        if by not in self._groups:
            scenes = [scene or "" for scene in self.memory.rows.scenes]
            names = scenes if by == "scene" else list(self.memory.rows.video_ids)
            self._groups[by] = _Groups(names, self._places)
        return self._groups[by]


class _Groups:
    """Videos sorted by group, so that the windows of a group are one range of numbers.

    Attributes:
        of_video: (V,) group of each video.
        order: (V,) videos, sorted by group.
        ends: (V,) cumulated windows in that order.
        sizes: (G,) windows of each group.
        begins: (G,) number of the first window of each group.
    """

    def __init__(self, names: list[str], places: NDArray[np.int64]) -> None:
        number = {name: i for i, name in enumerate(dict.fromkeys(names))}
        self.of_video = np.array([number[name] for name in names], np.int64)
        self.order = np.argsort(self.of_video, kind="stable")
        self.ends = np.cumsum(places[self.order])
        self.sizes = np.zeros(len(number), np.int64)
        np.add.at(self.sizes, self.of_video, places)
        self.begins = np.cumsum(self.sizes) - self.sizes


def _place(ends: NDArray[np.int64], drawn: NDArray[np.int64]) -> Picks:
    """The drawn-th of all windows, as video and place in it; `ends` are cumulated counts."""
    video = np.searchsorted(ends, drawn, side="right")
    before = np.where(video > 0, ends[video - 1], 0)
    return Picks(video.astype(np.int64), drawn - before)
