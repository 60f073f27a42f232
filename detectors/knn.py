"""Nearest normal neighbour: the baseline that every trained detector has to beat.

The score of a snippet is the distance of its feature to the nearest features of normal training
videos. Patches are compared with training patches of the same position, or of all positions; the
score of the snippet is that of its worst patch, or their mean.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from .base import (
    ADDED_LATER,
    Bag,
    BagSource,
    Config,
    Detector,
    DetectorError,
    FitLog,
    FitOptions,
    Scores,
    State,
    Supervision,
    Track,
)
from .k_center import k_center
from .nearest import NearestRows
from .state import stored_array

BLOCKS = 5  # parts that the only video of a scene is cut into; each is left out in turn
READ_BYTES = 64 << 20  # of the features of a video that are compared at once


class KNNConfig(Config):
    """Settings of `knn`."""

    role: Literal["snippet", "patch"] = Field(
        default="snippet", description="features that are compared: whole frames or patches"
    )
    k: int = Field(default=1, ge=1, description="mean distance to this many neighbours")
    normalise: bool = Field(default=True, description="divide features by their L2 norm")
    positions: Literal["each", "all"] = Field(
        default="each",
        description="compare a patch with training patches of its position, or with all of them",
    )
    pool: Literal["max", "mean"] = Field(default="max", description="over the patches of a grid")
    max_rows: int | None = Field(
        default=200_000, ge=1, description="training snippets to keep, drawn at random"
    )
    bank: Annotated[Literal["all", "random", "kcenter"], ADDED_LATER] = Field(
        default="all",
        description="rows that are compared with: all, some at random, or greedy k-center "
        "(PatchCore, Sect. 3.2)",
    )
    bank_size: Annotated[int | None, ADDED_LATER] = Field(
        default=None, ge=1, description="rows of each position with bank=random or kcenter"
    )

    @model_validator(mode="after")
    def _sized(self) -> KNNConfig:
        if (self.bank == "all") != (self.bank_size is None):
            raise ValueError(
                "bank=random and bank=kcenter need a bank_size, and bank=all takes none"
            )
        return self


class KNN(Detector[KNNConfig]):
    """Distance to the nearest normal training features (exact)."""

    name: ClassVar[str] = "knn"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = KNNConfig
    supervision: ClassVar[Supervision] = Supervision.NORMAL_ONLY
    reads_whole: ClassVar[bool] = True
    train_options: ClassVar[frozenset[str]] = frozenset()  # a search on the CPU, without steps

    def __init__(self, config: KNNConfig) -> None:
        super().__init__(config)
        self._banks: dict[str, NDArray[np.float32]] = {}  # role -> (rows, positions, D)
        self._searches: dict[str, _Search] = {}  # made of the banks when they are needed

    @property
    def needs(self) -> tuple[str, ...]:
        """The role that the config names."""
        return (self.config.role,)

    @property
    def columns(self) -> tuple[str, ...]:
        """The score, and the pooled distance of each track of the role."""
        return ("score", *sorted(self._banks))

    @property
    def maps(self) -> tuple[str, ...]:
        """The distances of the patches of each track that is a grid."""
        return tuple(sorted(self._banks))

    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Keep the training features, or the part of them that `max_rows` and `bank` say.

        Raises:
            DetectorError: there are no training videos, or their features differ in width or grid
                or are not finite.
        """
        banks, owner = _gather(source, self.config)
        kept = _kept(banks, self.config, seed)
        self._banks, self._searches = _rows_of(banks, kept), {}
        rows = {"rows": len(owner), "rows_kept": len(next(iter(self._banks.values())))}
        return FitLog(summary={"videos": len(source), **rows})

    def draws(self, source: BagSource) -> bool:
        """Tell whether there are more rows than are kept."""
        limits = [n for n in (self.config.max_rows, self.config.bank_size) if n is not None]
        if not limits or not len(source):
            return False
        role = next(iter(source[0].role(self.config.role)))
        return int(source.video_rows(role).counts.sum()) > min(limits)

    def score(self, bag: Bag) -> Scores:
        """Score each snippet: one column of (n,) distances for each grid; "score" is their mean.

        Raises:
            DetectorError: the detector is not fitted, or the bag has other features than the model.
        """
        if not self._banks:
            raise DetectorError("knn is not fitted")
        tracks = bag.role(self.config.role)
        if set(tracks) != set(self._banks):
            raise DetectorError(
                f"video {bag.video_id!r} has {sorted(tracks)}, the model was trained on "
                f"{sorted(self._banks)}"
            )
        first = next(iter(tracks.values()))
        columns: dict[str, NDArray[np.float64]] = {}
        maps: dict[str, NDArray[np.float32]] = {}
        for role, track in tracks.items():
            distances = self._distances(bag.video_id, role, track)  # (n, P)
            columns[role] = self._pool(distances)
            if track.grid is not None:
                maps[role] = distances.reshape(-1, *track.grid).astype(np.float32)
        columns = {"score": np.mean(list(columns.values()), axis=0), **columns}
        return Scores(first.frame_start, first.frame_stop, columns, maps)

    def _distances(self, video_id: str, role: str, track: Track) -> NDArray[np.float64]:
        """Mean distances of a track to the nearest rows of the bank: (n, P)."""
        if not len(track):
            raise DetectorError(f"video {video_id!r} has no rows of {role!r}")
        if role not in self._searches:
            self._searches[role] = _Search(self._banks[role], self.config)
        # Each row is compared by itself, so the size of the parts changes no score.
        size = max(1, READ_BYTES // (4 * max(1, math.prod(track.array.shape[1:]))))
        found = []
        for start in range(0, len(track), size):
            x = _prepare(track.rows(start, min(start + size, len(track))), self.config)
            if not np.isfinite(x).all():
                raise DetectorError(f"video {video_id!r}: {role!r} features have NaN values")
            found.append(self._searches[role](x))
        return np.concatenate(found)

    def held_out_scores(self, source: BagSource, *, seed: int) -> list[Scores]:
        """Score each training video against the features of all others.

        The only video of a scene is cut into five blocks of time, and so is a single training
        video. Each block is compared with all rows that share no frame with it. A video of fewer
        than two rows a block gets no scores. Rows that a video has in a smaller bank are left out
        and not replaced.

        Raises:
            DetectorError: no training video is long enough, or the bank has too few rows of others.
        """
        banks, owner = _gather(source, self.config)
        bags = list(source)
        tracks = [next(iter(bag.role(self.config.role).values())) for bag in bags]
        start = np.concatenate([track.frame_start for track in tracks])
        stop = np.concatenate([track.frame_stop for track in tracks])
        kept = _kept(banks, self.config, seed)
        searches = {r: _Search(b, self.config) for r, b in _rows_of(banks, kept).items()}
        videos_of = Counter(bag.scene for bag in bags)
        scores = []
        for number, bag in enumerate(bags):
            rows = np.flatnonzero(owner == number)
            blocks = [rows]
            if len(bags) == 1 or (bag.scene is not None and videos_of[bag.scene] == 1):
                blocks = np.array_split(rows, BLOCKS) if len(rows) >= 2 * BLOCKS else []
            found: dict[str, list[NDArray[np.float64]]] = {role: [] for role in banks}
            for block in blocks:
                apart = owner != number
                if len(blocks) > 1:
                    apart |= (stop <= start[block].min()) | (start >= stop[block].max())
                for role, bank in banks.items():
                    distances = searches[role](bank[block], apart[kept[role]])
                    found[role].append(self._pool(distances))
            columns = {role: np.concatenate([*each, []]) for role, each in found.items()}
            columns = {"score": np.mean(list(columns.values()), axis=0), **columns}
            rows = rows if blocks else rows[:0]
            scores.append(Scores(start[rows], stop[rows], columns))
        if not any(len(each.frame_start) for each in scores):
            what = f"one training video of {len(owner)} snippets is too short to hold parts of it"
            if len(bags) > 1:
                what = (
                    f"{len(bags)} training videos, each the only one of its scene, are too short "
                    "to hold parts of them"
                )
            raise DetectorError(f"{what} back: train on more footage")
        return scores

    def _pool(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pool the distances over the patches: (n, P) -> (n,)."""
        pooled = distances.max(axis=1) if self.config.pool == "max" else distances.mean(axis=1)
        return np.asarray(pooled, np.float64)

    def state_dict(self) -> State:
        """Return the kept features: role -> (rows, P, D)."""
        return dict(self._banks)

    def load_state_dict(self, state: State) -> None:
        """Restore the features that `state_dict` returned.

        Raises:
            DetectorError: the arrays are no features.
        """
        self._banks = {
            role: stored_array(state, role, "float32", (None, None, None)) for role in state
        }
        self._searches = {}


def _prepare(features: NDArray[Any], config: KNNConfig) -> NDArray[np.float32]:
    """(n, P, D) or (n, D) in storage type -> (n, P, D) float32; crops are averaged first."""
    x = features.astype(np.float32)
    if x.ndim == 2:
        x = x[:, None]
    if config.role == "snippet":
        x = x.mean(axis=1, keepdims=True)  # (n, crops, D) -> (n, 1, D)
    if config.normalise:
        norms = np.linalg.norm(x, axis=-1, keepdims=True)
        x = x / np.maximum(norms, np.finfo(np.float32).tiny)
    return x


def _gather(
    source: BagSource, config: KNNConfig
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
    """Collect role -> features of all bags, (rows, P, D), and the bag of each row, (rows,)."""
    pieces: dict[str, list[NDArray[np.float32]]] = {}
    lengths: list[int] = []
    for bag in source:
        tracks = bag.role(config.role)
        if pieces and set(tracks) != set(pieces):
            raise DetectorError(
                f"video {bag.video_id!r} has {sorted(tracks)}, videos before it {sorted(pieces)}"
            )
        for role, track in tracks.items():
            x = _prepare(track.rows(), config)
            if not np.isfinite(x).all():
                raise DetectorError(f"video {bag.video_id!r}: {role!r} features have NaN values")
            before = pieces.setdefault(role, [])
            if before and before[0].shape[1:] != x.shape[1:]:
                raise DetectorError(
                    f"video {bag.video_id!r}: {role!r} features are {x.shape[1:]}, those of videos "
                    f"before it {before[0].shape[1:]}"
                )
            before.append(x)
        counts = {len(arrays[-1]) for arrays in pieces.values()}
        if len(counts) > 1:
            raise DetectorError(f"video {bag.video_id!r}: its grids have different numbers of rows")
        lengths += counts
    if not pieces:
        raise DetectorError("there are no training videos")
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return {role: np.concatenate(arrays) for role, arrays in pieces.items()}, owner


def _thin(rows: int, limit: int | None, seed: int) -> NDArray[np.int64]:
    """Indices of the rows to keep, sorted."""
    if limit is None or rows <= limit:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))


def _kept(
    banks: dict[str, NDArray[np.float32]], config: KNNConfig, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Role -> which rows of its bank are kept, (kept, P) sorted indices."""
    rows = len(next(iter(banks.values())))
    drawn = _thin(rows, config.max_rows, seed)
    size = config.bank_size
    if config.bank == "random":
        drawn = drawn[_thin(len(drawn), size, seed)]
    kept = {role: np.repeat(drawn[:, None], b.shape[1], axis=1) for role, b in banks.items()}
    if config.bank == "kcenter" and size is not None and size < len(drawn):
        for role, bank in banks.items():
            some = [k_center(bank[drawn, p], size, seed) for p in range(bank.shape[1])]
            kept[role] = drawn[np.stack(some, axis=1)]
    return kept


def _rows_of(
    banks: dict[str, NDArray[np.float32]], kept: dict[str, NDArray[np.int64]]
) -> dict[str, NDArray[np.float32]]:
    """The kept rows of each bank; banks of which all are kept are not copied."""
    return {
        role: bank if len(kept[role]) == len(bank) else bank[kept[role], np.arange(bank.shape[1])]
        for role, bank in banks.items()
    }


class _Search:
    """Mean Euclidean distance to the k nearest rows of a bank.

    Args:
        bank:
            (rows, P, D).
        config:
            k, and whether a position is compared with itself only or with all.
    """

    def __init__(self, bank: NDArray[np.float32], config: KNNConfig) -> None:
        self._shape, self._k, self._whole = bank.shape, config.k, config.bank == "all"
        if config.positions == "all":
            self._nearest = [NearestRows(bank.reshape(-1, bank.shape[2]))]
        else:
            self._nearest = [NearestRows(bank[:, p]) for p in range(bank.shape[1])]

    def __call__(
        self, x: NDArray[np.float32], allowed: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Compare (n, P, D) features with the rows that are allowed, (rows, P): (n, P).

        Raises:
            DetectorError: the features have another shape, or there are fewer than k rows.
        """
        rows, positions, width = self._shape
        if (positions, width) != x.shape[1:]:
            raise DetectorError(f"features are {x.shape[1:]}, the model has {self._shape[1:]}")
        if allowed is None:
            allowed = np.ones((rows, positions), bool)
        if len(self._nearest) < positions:  # all positions are compared with all
            x, allowed = x.reshape(-1, 1, width), allowed.reshape(-1, 1)
        count = int(allowed.sum(axis=0).min())
        if count < self._k:
            cure = "" if self._whole else "; raise bank_size"
            raise DetectorError(f"there are {count} training rows, fewer than k = {self._k}{cure}")
        columns = [
            nearest.distances(x[:, p], self._k, allowed[:, p]).mean(axis=1)
            for p, nearest in enumerate(self._nearest)
        ]
        return np.stack(columns, axis=1).reshape(-1, positions)
