"""Scored boxes of a video, as region metrics compare them with labelled tracks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class ScoredBoxes:
    """Scored boxes of one video, in the order in which equal scores are taken.

    Attributes:
        frame: (n,) int64, from 0, of the whole file.
        box: (n, 4) float64: x0, y0, x1, y1 in pixels of the video, x1 and y1 one past the box.
        score: (n,) float64, higher = more anomalous.
    """

    frame: NDArray[np.int64]
    box: NDArray[np.float64]
    score: NDArray[np.float64]

    @classmethod
    def from_rows(cls, rows: NDArray[Any]) -> ScoredBoxes:
        """Rows frame, x0, y0, x1, y1, score: (n, 6)."""
        values = np.asarray(rows, np.float64).reshape(-1, 6)
        return cls(values[:, 0].astype(np.int64), values[:, 1:5], values[:, 5])

    @classmethod
    def from_regions(cls, table: pa.Table) -> ScoredBoxes:
        """The boxes of a score folder, see `REGION_SCHEMA`."""
        names = ("frame", "x0", "y0", "x1", "y1", "score")
        columns = [table[name].to_numpy().astype(np.float64) for name in names]
        return cls.from_rows(np.stack(columns, axis=1))

    def __len__(self) -> int:
        return len(self.frame)

    def between(self, start: int, stop: int) -> ScoredBoxes:
        """The boxes of the frames [start, stop)."""
        kept = (self.frame >= start) & (self.frame < stop)
        return ScoredBoxes(self.frame[kept], self.box[kept], self.score[kept])
