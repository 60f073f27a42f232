"""Object scores -> map of blocks -> mean filter over space and time -> frame scores -> Gaussian.

This is how object-level systems score frames (SSMTL, Sect. 3.4). A block has the highest score of
the boxes that cover it, and 0 where there is none; so has a frame without objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy import ndimage

from .base import Bag, Config, DetectorError, Track

MOST_BYTES = 2 << 30  # of the map of one video


class ObjectMapConfig(Config):
    """Settings of detectors that score objects."""

    block: int = Field(default=20, ge=1, description="side of a block of the map, in pixels")
    mean_filter: int = Field(
        default=1,
        ge=1,
        description="side of the mean filter over rows of time and blocks, odd; 1 leaves it out",
    )
    smooth: float = Field(
        default=4.0,
        ge=0,
        description="standard deviation of the Gaussian over frame scores, in frames; 0: none",
    )

    @field_validator("mean_filter")
    @classmethod
    def _is_odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("mean_filter is an odd number: the block itself is its middle")
        return value


@dataclass(frozen=True)
class Objects:
    """The boxes of a video, and the frames that were looked at.

    Attributes:
        frame_start: (rows,) int64, the first frame of each row.
        frame_stop: (rows,) int64, one past the last.
        size: height and width of the frames in pixels.
        row: (n,) int64, ascending: the row of each object.
        boxes: (n, 4) float64, x0, y0, x1, y1 in pixels; x1 and y1 are not included.
    """

    frame_start: NDArray[np.int64]
    frame_stop: NDArray[np.int64]
    size: tuple[int, int]
    row: NDArray[np.int64]
    boxes: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.row)

    def maxima(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Highest score of each row, 0 where it has no objects: (n,) -> (rows,)."""
        found = np.zeros(len(self.frame_start))
        np.maximum.at(found, self.row, scores)
        return found


def array_of(bag: Bag, role: str, how: str) -> Track:
    """Return the track of exactly this role.

    Raises:
        DetectorError: the features lack it; the message says `how` to get it.
    """
    if role not in bag.tracks:
        raise DetectorError(f"video {bag.video_id!r} has no {role!r} array: {how}")
    return bag.tracks[role]


def read_objects(bag: Bag) -> Objects:
    """Read boxes and frames of a video.

    Raises:
        DetectorError: there are no boxes, they are not finite, or they lie in frames that are not
            listed.
    """
    how = "extract the features of objects, vadpipe extract -e objects"
    boxes, sizes = array_of(bag, "object/boxes", how), array_of(bag, "frame/size", how)
    start = sizes.frame_start
    row = np.searchsorted(start, boxes.frame_start)
    if len(row) and (row[-1] >= len(start) or not np.array_equal(start[row], boxes.frame_start)):
        raise DetectorError(
            f"video {bag.video_id!r} has boxes in frames that its features do not list"
        )
    corners = boxes.rows().astype(np.float64).reshape(-1, 4)
    if not np.isfinite(corners).all():
        raise DetectorError(f"video {bag.video_id!r} has boxes that are not finite")
    height, width = (int(side) for side in sizes.rows(0, 1)[0]) if len(start) else (1, 1)
    return Objects(start, sizes.frame_stop, (height, width), row, corners)


def score_frames(
    objects: Objects, scores: NDArray[np.float64], config: ObjectMapConfig
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Turn the scores of objects into scores of frames.

    Args:
        objects:
            Of one video.
        scores:
            (n,) 0 or more, of each object.
        config:
            See there.

    Returns:
        (rows,) scores and (rows, R, C) the filtered map.

    Raises:
        DetectorError: the map has too many blocks.
    """
    maps = mean_filtered(painted(objects, scores, config.block), config.mean_filter)
    frames = maps.max((1, 2), initial=0.0).astype(np.float64)
    return gaussian(frames, objects.frame_start, config.smooth), maps


def painted(objects: Objects, scores: NDArray[np.float64], block: int) -> NDArray[np.float32]:
    """Paint each box with its score; where boxes overlap, the highest score counts.

    A box covers the blocks from round(x0 / block) to round(its last pixel / block).

    Returns:
        (rows, ceil(height / block), ceil(width / block)).

    Raises:
        DetectorError: this is more than 2 GiB.
    """
    shape = (len(objects.frame_start), *(-(-side // block) for side in objects.size))
    if 4 * np.prod(shape, dtype=np.float64) > MOST_BYTES:
        raise DetectorError(
            f"a map of {shape[1]} x {shape[2]} blocks for {shape[0]} frames takes more than "
            f"{MOST_BYTES >> 30} GiB: set block to more than {block}"
        )
    maps = np.zeros(shape, np.float32)
    limit = np.array([shape[2], shape[1], shape[2], shape[1]]) - 1
    edges = np.round((objects.boxes - [0, 0, 1, 1]) / block).astype(np.int64)
    edges = np.clip(edges, 0, limit)
    for row, (x0, y0, x1, y1), score in zip(
        objects.row.tolist(), edges.tolist(), scores.tolist(), strict=True
    ):
        part = maps[row, y0 : y1 + 1, x0 : x1 + 1]
        np.maximum(part, score, out=part)
    return maps


def mean_filtered(maps: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Mean over cubes of rows and blocks, (rows, R, C); outside of the map everything is 0."""
    if side == 1 or not maps.size:
        return maps
    smooth = ndimage.uniform_filter(maps.astype(np.float64), side, mode="constant", cval=0.0)
    # The filter adds and takes away; what should be 0 again may be a rounding error below it.
    return np.asarray(np.maximum(smooth, 0.0), np.float32)


def gaussian(
    values: NDArray[np.float64], frame_start: NDArray[np.int64], deviation: float
) -> NDArray[np.float64]:
    """Smooth over time, symmetric and normalised; the first and the last value are repeated.

    Args:
        values:
            (rows,).
        frame_start:
            (rows,) at even distances.
        deviation:
            Standard deviation in frames; 0 changes nothing.
    """
    if deviation == 0 or len(values) < 2:
        return values
    step = float(np.median(np.diff(frame_start)))
    smooth = ndimage.gaussian_filter1d(values, deviation / step, mode="nearest", truncate=4.0)
    return np.asarray(np.clip(smooth, values.min(), values.max()), np.float64)
