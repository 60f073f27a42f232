"""Detector `restless`: cells that change more than they do in normal footage."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from vadpipe.detectors.base import (
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
from vadpipe.detectors.state import stored_array


class RestlessConfig(Config):
    """Settings of `restless`."""

    floor: float = Field(
        default=0.5, gt=0, description="smallest standard deviation of a cell, in grey values"
    )


class Restless(Detector[RestlessConfig]):
    """How many standard deviations the busiest cell is above its mean in normal footage."""

    name: ClassVar[str] = "restless"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = RestlessConfig
    supervision: ClassVar[Supervision] = Supervision.NORMAL_ONLY
    regions: ClassVar[bool] = True  # each video has boxes, though maybe no rows of them
    train_options: ClassVar[frozenset[str]] = frozenset({"holdout"})  # --device would be ignored

    def __init__(self, config: RestlessConfig) -> None:
        super().__init__(config)
        self._state: State = {}

    @property
    def needs(self) -> tuple[str, ...]:
        """The changes of a grid, and the boxes of busy cells."""
        return ("patch", "object")

    @property
    def columns(self) -> tuple[str, ...]:
        """The score, and the number of busy cells."""
        return ("score", "objects")

    @property
    def maps(self) -> tuple[str, ...]:
        """The excess of every cell."""
        return ("excess",)

    def fit(
        self, source: BagSource, *, device: str, seed: int, options: FitOptions | None = None
    ) -> FitLog:
        """Take mean and standard deviation of each cell; nothing is random.

        Raises:
            DetectorError: there are no training videos.
        """
        rows = [_grid(bag).rows()[..., 0] for bag in source]  # (n, cells) each
        if not rows:
            raise DetectorError("there are no training videos")
        values = np.concatenate(rows).astype(np.float64)
        std = np.maximum(values.std(0), self.config.floor)
        self._state = {"mean": values.mean(0), "std": std}
        return FitLog(summary={"videos": len(rows), "rows": len(values)})

    def draws(self, source: BagSource) -> bool:
        """Tell that a fit draws nothing at random."""
        return False

    def score(self, bag: Bag) -> Scores:
        """Score each clip, with a map over the grid and boxes of the busy cells.

        Raises:
            DetectorError: the detector is not fitted, or the bag has another grid.
        """
        if not self._state:
            raise DetectorError("restless is not fitted")
        track = _grid(bag)
        values = track.rows()[..., 0].astype(np.float64)
        mean, std = self._state["mean"], self._state["std"]
        if values.shape[1:] != mean.shape or track.grid is None:
            raise DetectorError(f"video {bag.video_id!r}: its grid is not that of the model")
        excess = np.maximum((values - mean) / std, 0.0)  # (n, cells)
        objects = bag.role("object")
        boxes, cell = objects["object/boxes"], objects["object/cell"].rows()
        row = np.searchsorted(track.frame_start, boxes.frame_start)  # the clip of each object
        counts = np.bincount(row, minlength=len(track)).astype(np.float64)
        return Scores(
            track.frame_start,
            track.frame_stop,
            {"score": excess.max(1), "objects": counts},
            {"excess": excess.reshape(-1, *track.grid).astype(np.float32)},
            _regions(boxes, excess[row, cell]),
        )

    def state_dict(self) -> State:
        """Return mean and standard deviation of each cell."""
        return dict(self._state)

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned.

        Raises:
            DetectorError: the arrays are none that `fit` makes.
        """
        self._state = {
            name: stored_array(state, name, "float64", (None,)) for name in ("mean", "std")
        }


def _grid(bag: Bag) -> Track:
    """The only grid of a bag."""
    tracks = list(bag.role("patch").values())
    if len(tracks) > 1:
        raise DetectorError(f"video {bag.video_id!r} has {len(tracks)} grids: extract one")
    return tracks[0]


def _regions(boxes: Track, scores: NDArray[np.float64]) -> pa.Table:
    """A row for each frame of each object: the frame, the box in pixels, the score."""
    lengths = boxes.frame_stop - boxes.frame_start
    object_of = np.repeat(np.arange(len(boxes)), lengths)
    first = np.cumsum(lengths) - lengths  # the row of each object's first frame
    frame = boxes.frame_start[object_of] + np.arange(len(object_of)) - first[object_of]
    corners = boxes.rows()[object_of].astype(np.float32).T  # (4, rows)
    named = dict(zip(("x0", "y0", "x1", "y1"), corners, strict=True))
    return pa.table({"frame": frame, **named, "score": scores[object_of]})
