"""Have the scores of normal footage moved since training? Frame scores of two times, compared.

The frames of a camera are cut into stretches, as neighbouring frames are alike and whole stretches
are nearly not. For some levels, the share of frames above the level is compared between the two
times by a studentised permutation test of the stretches (Janssen 1997; Chung and Romano 2013): it
is exact if stretches of both times are exchangeable, and right for many stretches if only their
means are equal. Levels are joined by the smallest p value of each permutation (Westfall and Young
1993, Ch. 2), cameras by the rule of Holm (1979).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.5, 0.9, 0.99, 0.999)
LEVEL = 0.01  # of a wrong "moved" among all cameras of a comparison
LEAST = 8  # stretches of each time
LENGTHS = (3600.0, 1800.0, 600.0, 300.0, 120.0, 60.0)  # seconds of a stretch, the longest that does
PERMUTATIONS = 1999
Floats = NDArray[np.float64]
State = Literal["moved", "same", "cannot tell"]


@dataclass(frozen=True)
class FrameScores:
    """The frame scores of one video, as runs of equal frames.

    Attributes:
        lengths: (k,) frames of each run.
        values: (k,) their score.
        fps: frames per second.
    """

    lengths: NDArray[np.int64]
    values: Floats
    fps: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return float(self.lengths.sum()) / self.fps


@dataclass(frozen=True)
class Moved:
    """What has become of one quantile.

    Attributes:
        quantile: which.
        before: the score, at training.
        now: the score, of the new footage.
        share: of the new frames above `before`; it was 1 - quantile.
        p: how often chance alone makes such a difference at one of the levels; None where it
            cannot be told.
    """

    quantile: float
    before: float
    now: float
    share: float
    p: float | None


@dataclass(frozen=True)
class CameraDrift:
    """The comparison of one camera.

    Attributes:
        camera: its name; "" where cameras are not told apart.
        state: "moved", "same" (no difference was seen), or "cannot tell".
        why: why it cannot be told; "" where it can.
        quantiles: one each; () without footage on one of the sides.
        seconds: of footage, before and now.
        stretches: how many were compared, before and now.
        stretch_seconds: the length of one at most; 0 where none were compared.
        p: how often chance alone makes such a difference of the camera; None where it is not known.
        over: share of frames above the threshold, before and now; None without a threshold.
        fitted: the score that the new frames exceed as often as those before did the threshold;
            None where too few did.
    """

    camera: str
    state: State
    why: str
    quantiles: tuple[Moved, ...]
    seconds: tuple[float, float]
    stretches: tuple[int, int] = (0, 0)
    stretch_seconds: float = 0.0
    p: float | None = None
    over: tuple[float, float] | None = None
    fitted: float | None = None


def compare_camera(
    camera: str,
    before: Sequence[FrameScores],
    now: Sequence[FrameScores],
    threshold: float | None,
    *,
    seed: int = 0,
) -> CameraDrift:
    """Compare the frame scores of a camera at two times.

    The state is that of this camera alone; `judged` allows for several.

    Args:
        camera:
            Its name.
        before:
            Videos that the model was calibrated on.
        now:
            New videos.
        threshold:
            Above which frames start an event; None where there is none.
        seed:
            Of the permutations.
    """
    seconds = sum(v.seconds for v in before), sum(v.seconds for v in now)
    if not before or not now:
        why = "training knows nothing of it" if not before else "there is no new footage of it"
        return CameraDrift(camera, "cannot tell", why, (), seconds)
    old, new = _Joined.of(before), _Joined.of(now)
    over, fitted = None, None
    if threshold is not None:
        over = old.share_above(threshold), new.share_above(threshold)
        enough = over[0] * min(old.ends[-1], new.ends[-1]) >= LEAST
        fitted = new.quantile(1.0 - over[0]) if enough else None
    length = _stretch_seconds(before, now)
    if length is None:
        why = (
            f"{LEAST} stretches of at least {LENGTHS[-1]:.0f} s are needed of both: there are "
            f"{seconds[0]:.0f} s of training and {seconds[1]:.0f} s of new footage"
        )
        found = _quantiles(old, new, [None] * len(QUANTILES))
        return CameraDrift(camera, "cannot tell", why, found, seconds, over=over, fitted=fitted)
    levels = np.array([_Joined.of([*before, *now]).quantile(q) for q in QUANTILES])
    counts = [_counts(videos, levels, length) for videos in (before, now)]
    p, each = permutation_test(counts[0], counts[1], seed=seed)
    state: State = "moved" if p <= LEVEL else "same"
    stretches = len(counts[0]), len(counts[1])
    found = _quantiles(old, new, list(each))
    return CameraDrift(camera, state, "", found, seconds, stretches, length, p, over, fitted)


def judged(cameras: Sequence[CameraDrift], level: float = LEVEL) -> list[CameraDrift]:
    """The same, with states for which a wrong "moved" among all is as rare as `level` (Holm)."""
    known = sorted((c for c in cameras if c.p is not None), key=lambda c: c.p or 0.0)
    moved: set[str] = set()
    for place, camera in enumerate(known):
        if camera.p is None or camera.p > level / (len(known) - place):
            break
        moved.add(camera.camera)
    return [
        c if c.p is None else replace(c, state="moved" if c.camera in moved else "same")
        for c in cameras
    ]


def permutation_test(
    before: Floats, now: Floats, *, seed: int = 0, permutations: int = PERMUTATIONS
) -> tuple[float, Floats]:
    """Test whether the shares of frames above some levels are the same in two groups of stretches.

    Args:
        before:
            (n, 1 + L): frames of each stretch, and how many of them are above each level.
        now:
            (m, 1 + L), likewise.
        seed:
            Of the permutations.
        permutations:
            How many are drawn.

    Returns:
        The p value of all levels together, and (L,) those of single ones, which allow for the
        others. All are at least 1 / (permutations + 1).
    """
    every, n = np.concatenate([before, now]), len(before)
    random = np.random.default_rng(seed)
    statistics = [_studentised(every[:n], every[n:])]
    for _ in range(permutations):
        order = random.permutation(len(every))
        statistics.append(_studentised(every[order[:n]], every[order[n:]]))
    table = np.array(statistics)  # (1 + permutations, L)
    # Of each column the share of rows at least as large: p values of the data and of permutations.
    ascending = np.sort(table, axis=0)
    ranks = [
        len(table) - np.searchsorted(ascending[:, k], table[:, k] * (1 - 1e-12), side="left")
        for k in range(table.shape[1])
    ]
    p = np.stack(ranks, axis=1) / len(table)
    smallest = p.min(axis=1)
    adjusted = np.array([(smallest <= own).mean() for own in p[0]])
    return float(adjusted.min()), adjusted


def _studentised(one: Floats, other: Floats) -> Floats:
    """(L,) differences of shares in units of their standard deviation, as ratio estimators."""
    shares, variances = [], []
    for group in (one, other):
        frames, above = group[:, :1], group[:, 1:]
        share = above.sum(axis=0) / frames.sum()
        off = above - share * frames
        m = len(group)
        variances.append(m / (m - 1) * (off**2).sum(axis=0) / frames.sum() ** 2)
        shares.append(share)
    difference = np.abs(shares[0] - shares[1])
    spread = np.sqrt(variances[0] + variances[1])
    known = spread > 1e-15
    certain = np.where(difference > 1e-15, np.inf, 0.0)  # all stretches of a group are alike
    return np.where(known, difference / np.where(known, spread, 1.0), certain)


def _stretch_seconds(before: Sequence[FrameScores], now: Sequence[FrameScores]) -> float | None:
    """The longest stretches of which both times have enough; None where there are none."""
    for length in LENGTHS:
        if all(sum(_pieces(v, length) for v in videos) >= LEAST for videos in (before, now)):
            return length
    return None


def _pieces(video: FrameScores, length: float) -> int:
    """How many stretches a video has: of the length, or a little more; none if it is too short."""
    return int(video.seconds / length + 1e-9)


def _counts(videos: Sequence[FrameScores], levels: Floats, length: float) -> Floats:
    """(n, 1 + L): frames of each stretch, and how many of them are above each level."""
    rows = []
    for video in videos:
        pieces = _pieces(video, length)
        if not pieces:
            continue
        ends = np.cumsum(video.lengths)
        cuts = np.rint(np.linspace(0, ends[-1], pieces + 1)).astype(np.int64)
        starts = ends - video.lengths
        for a, b in itertools.pairwise(cuts):
            first = int(np.searchsorted(ends, a, side="right"))
            last = int(np.searchsorted(starts, b, side="left"))
            inside = np.minimum(ends[first:last], b) - np.maximum(starts[first:last], a)
            above = video.values[first:last, None] > levels
            rows.append(np.concatenate([[b - a], inside @ above]).astype(np.float64))
    return np.array(rows)


@dataclass(frozen=True)
class _Joined:
    """All frames of some videos, by their scores: lowest first."""

    values: Floats
    ends: NDArray[np.int64]  # frames up to here

    @classmethod
    def of(cls, videos: Sequence[FrameScores]) -> _Joined:
        values = np.concatenate([v.values for v in videos])
        lengths = np.concatenate([v.lengths for v in videos])
        order = np.argsort(values, kind="stable")
        return cls(values[order], np.cumsum(lengths[order]))

    def quantile(self, q: float) -> float:
        """The lowest score that a share q of the frames does not exceed."""
        place = int(np.searchsorted(self.ends, q * self.ends[-1] * (1 - 1e-12), side="left"))
        return float(self.values[min(place, len(self.values) - 1)])

    def share_above(self, level: float) -> float:
        """The share of frames above a score."""
        place = int(np.searchsorted(self.values, level, side="right"))
        below = int(self.ends[place - 1]) if place else 0
        return 1.0 - below / float(self.ends[-1])


def _quantiles(old: _Joined, new: _Joined, p: Sequence[float | None]) -> tuple[Moved, ...]:
    return tuple(
        Moved(
            q,
            before := old.quantile(q),
            new.quantile(q),
            new.share_above(before),
            None if each is None else float(each),
        )
        for q, each in zip(QUANTILES, p, strict=True)
    )
