"""A part of an array that stays on disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...detectors.base import ArrayLike


@dataclass(frozen=True)
class RowSlice:
    """Rows [start, stop) of an array that stays on disk."""

    array: ArrayLike
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, ...)."""
        return (self.stop - self.start, *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """As stored."""
        return self.array.dtype

    def __getitem__(self, rows: slice) -> NDArray[np.generic]:
        low, high, step = rows.indices(self.stop - self.start)
        if step != 1:
            raise IndexError("features are sliced with step 1")
        return self.array[self.start + low : self.start + high]
