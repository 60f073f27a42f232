"""Flow peak: the fastest place of a frame; a baseline that learns nothing."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from .base import Bag, Config, DetectorError, Scores
from .cells import Grid, blocks, cell_means, pictures
from .unlearned import Unlearned


class FlowPeakConfig(Config):
    """Settings of `flow_peak`."""

    cells: tuple[PositiveInt, PositiveInt] = Field(
        default=(32, 32), description="(rows, columns) of cells that a frame is cut into"
    )
    window: tuple[PositiveInt, PositiveInt] = Field(
        default=(4, 2), description="(rows, columns) of cells in a window; every place is tried"
    )

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.window[0] > self.cells[0] or self.window[1] > self.cells[1]:
            raise ValueError(f"a window of {self.window} cells does not fit into {self.cells}")
        return self


class FlowPeak(Unlearned[FlowPeakConfig]):
    """The largest mean speed of all windows of a frame, in pixels a frame."""

    name: ClassVar[str] = "flow_peak"
    version: ClassVar[int] = 1
    words: ClassVar[str] = "something moves faster than the rest"
    Config: ClassVar[type[Config]] = FlowPeakConfig

    @property
    def needs(self) -> tuple[str, ...]:
        """Dense flow."""
        return ("flow",)

    @property
    def maps(self) -> tuple[str, ...]:
        """The mean speed of each cell."""
        return ("speed",)

    def score(self, bag: Bag) -> Scores:
        """Score each row of flow.

        Raises:
            DetectorError: the bag has no flow, or its fields have fewer pixels than a window has
                cells.
        """
        track = pictures(bag, "flow", 2)
        height, width = track.array.shape[1:3]
        if height < self.config.cells[0] or width < self.config.cells[1]:
            raise DetectorError(
                f"video {bag.video_id!r}: flow of {height} x {width} has fewer pixels than "
                f"{self.config.cells} cells: set cells to less"
            )
        maps = [np.zeros((0, *self.config.cells), np.float32)]
        score = np.zeros(len(track))
        for first, block in blocks(track):
            speed = np.hypot(*np.moveaxis(block.astype(np.float64), -1, 0))
            cells = cell_means(speed, self.config.cells)
            score[first : first + len(block)] = peaks(cells, self.config.window)
            maps.append(cells.astype(np.float32))
        return Scores(
            track.frame_start, track.frame_stop, {"score": score}, {"speed": np.concatenate(maps)}
        )


def peaks(cells: NDArray[np.float64], window: Grid) -> NDArray[np.float64]:
    """Largest mean over all windows of cells: (n, rows, columns) -> (n,)."""
    windows = sliding_window_view(cells, window, axis=(1, 2))
    return np.asarray(windows.mean((-2, -1)).max((1, 2)), np.float64)
