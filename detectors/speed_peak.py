"""Speed peak: the fastest object of a frame; a baseline that learns nothing."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from .base import Bag, Config, DetectorError, Scores, Track
from .object_links import fill_between
from .unlearned import Unlearned

FLOW, BOXES, FRAMES = "object/flow", "object/boxes", "frame/objects"


class SpeedPeakConfig(Config):
    """Settings of `speed_peak`."""

    fill: bool = Field(
        default=True,
        description="boxes in the frames between rows too, where features have a stride",
    )


class SpeedPeak(Unlearned[SpeedPeakConfig]):
    """The largest median speed of all objects of a frame, in pixels a frame; 0 without objects."""

    name: ClassVar[str] = "speed_peak"
    version: ClassVar[int] = 2
    words: ClassVar[str] = "something moves fast"
    Config: ClassVar[type[Config]] = SpeedPeakConfig
    regions: ClassVar[bool] = True

    @property
    def needs(self) -> tuple[str, ...]:
        """The motion of objects; boxes and frames are in the same feature set."""
        return (FLOW,)

    def score(self, bag: Bag) -> Scores:
        """Score each frame that was looked at, and each box by its speed.

        Raises:
            DetectorError: the bag has no boxes, or objects of frames that were not looked at.
        """
        missing = [role for role in (FLOW, BOXES, FRAMES) if role not in bag.tracks]
        if missing:
            raise DetectorError(
                f"video {bag.video_id!r} has no {', '.join(missing)}: extract objects with "
                "--set flow=dis"
            )
        flow, boxes, frames = (bag.tracks[role] for role in (FLOW, BOXES, FRAMES))
        speed = flow.rows()[:, 0].astype(np.float64)
        row = np.searchsorted(frames.frame_start, flow.frame_start)
        inside = row < len(frames)
        known = frames.frame_start[np.where(inside, row, 0)] == flow.frame_start
        if not (inside & known).all():
            raise DetectorError(
                f"video {bag.video_id!r} has objects of frames that it has no rows for: extract "
                "objects again"
            )
        score = np.zeros(len(frames))
        np.maximum.at(score, row, speed)
        regions = _regions(boxes, speed)
        if self.config.fill:
            regions = fill_between(regions, frames.frame_start, bag.n_frames)
        return Scores(frames.frame_start, frames.frame_stop, {"score": score}, regions=regions)


def _regions(boxes: Track, speed: NDArray[np.float64]) -> pa.Table:
    """A row for each object with pixels: its frame, its box, its speed."""
    corners = boxes.rows().astype(np.float32).reshape(-1, 4).T
    named = dict(zip(("x0", "y0", "x1", "y1"), corners, strict=True))
    kept = (named["x0"] < named["x1"]) & (named["y0"] < named["y1"])
    table = pa.table({"frame": boxes.frame_start, **named, "score": speed})
    return table.filter(pa.array(kept))
