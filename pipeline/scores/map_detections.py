"""Score maps as scored boxes, for detectors that return maps and no boxes.

The rule: a cell counts where the map is above one threshold, the given quantile of all finite
values of the map over the measured videos. No label is used. At each frame, the 8-connected
components of such cells become boxes, in the order of their first cells, row by row. The score of
a box is the highest value in its component. The map at a frame is the mean of the rows that cover
it, or that of the nearest row, as in `ScoreMaps.at`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ...data_manifests.mask_tracks import components
from .frames import MetricsError
from .maps import ScoreMaps
from .scored_boxes import ScoredBoxes

QUANTILE = 0.98
SAMPLE_VALUES = 4_000_000  # most values that the threshold is taken from
ROWS = 256  # of a map, in memory at once


def map_threshold(videos: Mapping[str, ScoreMaps], name: str, quantile: float = QUANTILE) -> float:
    """A quantile of the values of a map; of evenly spaced rows where these are very many.

    Args:
        videos:
            The maps of all videos; those without a map of this name are passed over.
        name:
            Of the map.
        quantile:
            From 0 to 1.

    Raises:
        MetricsError: the quantile is out of range, or the map has no finite value.
        StoreError: a file is damaged.
    """
    if not 0 <= quantile <= 1:
        raise MetricsError(f"the quantile of maps is {quantile}: use a number from 0 to 1")
    own = [videos[video_id] for video_id in sorted(videos) if name in videos[video_id].maps]
    size = sum(math.prod(maps.maps[name].shape) for maps in own)
    step = max(1, math.ceil(size / SAMPLE_VALUES))
    sampled = [maps.read(name, 0, None, step).ravel() for maps in own]
    values = np.concatenate(sampled) if sampled else np.zeros(0, np.float32)
    values = values[np.isfinite(values)].astype(np.float64)
    if not len(values):
        raise MetricsError(f"map {name!r} has no finite value in the measured videos")
    return float(np.quantile(values, quantile))


def map_detections(
    maps: ScoreMaps, name: str, threshold: float, frames: tuple[int, int], size: tuple[int, int]
) -> ScoredBoxes:
    """The boxes of one video.

    Args:
        maps:
            Of the video.
        name:
            Of the map.
        threshold:
            Cells above it count.
        frames:
            First frame, and one past the last.
        size:
            (height, width) of the video in pixels.

    Returns:
        The boxes sorted by frame, in pixels of the video.

    Raises:
        StoreError: the file is damaged, or has no such map.
    """
    about = maps.maps[name]
    cell = np.array(
        [
            size[1] * about.covered[1] / about.shape[2],
            size[0] * about.covered[0] / about.shape[1],
        ]
    )  # width, height of a cell in pixels
    found: list[NDArray[np.float64]] = [np.zeros((0, 6))]
    for start, stop, values in _spans(maps, name, *frames):
        high = np.isfinite(values) & (values > threshold)
        parts = components(high)
        if not len(parts.box):
            continue
        peak = np.full(int(parts.number.max()) + 1, -np.inf)
        np.maximum.at(peak, parts.labels[high], values[high])
        boxes = parts.box * np.tile(cell, 2)
        n = stop - start
        frame = np.repeat(np.arange(start, stop), len(boxes))[:, None]
        found.append(
            np.hstack([frame, np.tile(boxes, (n, 1)), np.tile(peak[parts.number], n)[:, None]])
        )
    return ScoredBoxes.from_rows(np.concatenate(found))


def _spans(
    maps: ScoreMaps, name: str, start: int, stop: int
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Frames [start, stop) cut where other rows cover them, each with the map there."""
    first, last = maps.frames()
    if not len(first) or stop <= start:
        return
    order = np.argsort(first, kind="stable")
    covered = np.concatenate([first, last])
    # Between two rows the nearer one counts, the earlier one in the middle.
    reached = np.maximum.accumulate(last[order])
    gaps = first[order][1:] - reached[:-1]
    middles = (reached[:-1] + (gaps + 1) // 2)[gaps > 0]
    cuts = np.unique(np.concatenate([covered, middles, [start, stop]]))
    cuts = cuts[(cuts >= start) & (cuts <= stop)]
    block, begin = np.zeros((0, *maps.maps[name].shape[1:]), np.float32), 0
    for a, b in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        distance = np.maximum(np.maximum(first - a, a - last + 1), 0)  # (n,)
        rows = np.flatnonzero(distance == 0)
        if not len(rows):
            rows = distance.argmin()[None]
        low, high = int(rows[0]), int(rows[-1]) + 1
        if low < begin or high > begin + len(block):
            block, begin = maps.read(name, low, max(high, low + ROWS)), low
        yield a, b, np.asarray(block[rows - begin].mean(axis=0), np.float32)
