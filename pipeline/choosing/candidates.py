"""What can be ranked: settings, thresholds and strides that make a difference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...detectors.base import DetectorError
from ..store.errors import StoreError
from ..store.feature_store import FeatureStore
from .one_window import event_frames

LEAST_ROWS = 2  # of a fast stretch, and of the rest of its clip


def check_candidates(
    settings: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    thresholds: Sequence[float],
    strides: Sequence[int],
    windows: tuple[int, int],
) -> None:
    """Refuse what makes no candidates (see `choose.rank_settings`).

    Raises:
        DetectorError: it names what is wrong.
    """
    for key, values in grid.items():
        if isinstance(values, str) or not len(values):
            raise DetectorError(f"the grid has no list of values for {key}: name one or more")
    if both := [key for key in grid if key in settings]:
        raise DetectorError(
            f"{both[0]} is in the grid and has a fixed value too: leave one of them out"
        )
    if not thresholds or not all(0 <= each <= 1 for each in thresholds):
        raise DetectorError(f"thresholds are one or more numbers of 0..1, not {list(thresholds)}")
    if not strides or min(strides) < 1:
        raise DetectorError(f"strides are one or more numbers from 1 on, not {list(strides)}")
    if min(windows) < 1:
        raise DetectorError(f"windows are 1 or more rows and columns, not {windows}")


def check_thresholds(thresholds: Iterable[float], stores: Iterable[FeatureStore]) -> None:
    """Refuse thresholds below that of a feature set: they would all rank as its own does.

    0 is accepted: it takes all boxes that there are.

    Raises:
        StoreError: one is; the message says how to get boxes for it.
    """
    for store in stores:
        own = store.recipe.get("config", {}).get("score")
        if store.recipe["extractor"] != "objects" or own is None:
            continue
        if below := [each for each in thresholds if 0 < each < own]:
            raise StoreError(
                f"{store.name} has no boxes below {own}, so a threshold of {min(below)} changes "
                f"nothing: extract objects with --set score={min(below)}, or leave it out"
            )


def check_strides(
    name: str, frames: tuple[int, int], fast_frames: int, strides: Sequence[int]
) -> None:
    """Refuse strides that leave too little of a clip and its fast stretch.

    Args:
        name:
            Of the copy.
        frames:
            The frames [start, stop) of the file that are the clip.
        fast_frames:
            Of the copy.
        strides:
            All that are compared.

    Raises:
        DetectorError: the stretch would not be inside of the clip, as it starts at a multiple of
            all strides; or a stride leaves fewer than two rows of it or of the rest.
    """
    step = math.lcm(*strides)
    start, stop = event_frames(frames, fast_frames, step)
    for every in strides:
        inside = len(range(0, fast_frames, every))
        rest = len(range(-(-frames[0] // every) * every, frames[1], every)) - inside
        if min(inside, rest) < LEAST_ROWS:
            raise DetectorError(
                f"a stride of {every} leaves {inside} rows of {name} and {rest} of the rest of its "
                f"clip, and {LEAST_ROWS} are needed of both: take smaller strides, or leave short "
                "clips out of the manifest"
            )
    if start <= frames[0] or stop > frames[1]:
        raise DetectorError(
            f"the fast stretch starts at a multiple of all strides, and of {step} there is none "
            f"before the middle of the clip of {name}: take strides with a smaller common multiple"
        )
