"""Bags in memory, and small weakly labelled sets with a known answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vadpipe.detectors.base import Bag, Track


class ArrayRows:
    """A VideoRows in memory; counts the calls of `read_into`."""

    def __init__(
        self,
        arrays: Sequence[NDArray[Any]],
        *,
        role: str = "pixels",
        scenes: Sequence[str | None] | None = None,
        labels: Sequence[int | None] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.arrays = [np.asarray(array) for array in arrays]
        self.role = role
        self.video_ids = list(names or (f"v{i}" for i in range(len(arrays))))
        self.scenes = list(scenes or [None] * len(arrays))
        self.labels = list(labels or [None] * len(arrays))
        self.counts = np.array([len(array) for array in arrays], np.int64)
        self.shape = self.arrays[0].shape[1:]
        self.dtype = self.arrays[0].dtype
        self.reads = 0

    def read_into(self, out: NDArray[Any], video: int, start: int) -> None:
        self.reads += 1
        out[...] = self.arrays[video][start : start + len(out)]


class Bags:
    """A BagSource in memory."""

    def __init__(self, bags: Sequence[Bag]) -> None:
        self.bags = list(bags)

    def __len__(self) -> int:
        return len(self.bags)

    def __iter__(self) -> Iterator[Bag]:
        return iter(self.bags)

    def __getitem__(self, i: int) -> Bag:
        return self.bags[i]

    def subset(self, indices: Sequence[int]) -> Bags:
        return Bags([self.bags[i] for i in indices])

    def video_rows(self, role: str) -> ArrayRows:
        return ArrayRows(
            [bag.tracks[role].rows() for bag in self.bags],
            role=role,
            scenes=[bag.scene for bag in self.bags],
            labels=[bag.label for bag in self.bags],
            names=[bag.video_id for bag in self.bags],
        )


def bag(
    name: str,
    arrays: Mapping[str, NDArray[Any]],
    label: int | None = None,
) -> Bag:
    """A video of 16-frame snippets; a role "patch/RxC" gets its grid from its name."""
    tracks = {}
    for role, x in arrays.items():
        starts = np.arange(len(x), dtype=np.int64) * 16
        grid = None
        if role.startswith("patch/"):
            rows, columns = role.removeprefix("patch/").split("x")
            grid = (int(rows), int(columns))
        tracks[role] = Track(x, starts, starts + 16, grid)
    n = len(next(iter(arrays.values())))
    return Bag(name, label, n * 16, 25.0, tracks)


def weak_bags(
    videos: int = 8,
    *,
    seed: int = 0,
    width: int = 16,
    crops: int | None = None,
    grids: Sequence[str] = (),
    rows: tuple[int, int] = (20, 60),
) -> Bags:
    """Every second video is abnormal: a fifth of its snippets (and one patch) is shifted."""
    rng = np.random.default_rng(seed)
    bags = []
    for v in range(videos):
        n = int(rng.integers(rows[0], rows[1] + 1))
        label = v % 2
        first = int(rng.integers(0, n - n // 5)) if label else 0
        shift = np.zeros((n, 1), np.float32)
        shift[first : first + n // 5] = 2.0 * label
        shape = (n, width) if crops is None else (n, crops, width)
        x = rng.normal(size=shape).astype(np.float32)
        x += shift if crops is None else shift[:, None]
        arrays = {"snippet": x}
        for grid in grids:
            r, c = map(int, grid.split("x"))
            patches = rng.normal(size=(n, r * c, width)).astype(np.float32)
            patches[:, int(rng.integers(r * c))] += shift
            arrays[f"patch/{grid}"] = patches
        bags.append(bag(f"v{v:02d}", arrays, label))
    return Bags(bags)
