"""Bags in memory, and small weakly labelled sets with a known answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vadpipe.detectors.base import Bag, Track


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
