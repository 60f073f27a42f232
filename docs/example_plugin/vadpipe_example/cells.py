"""Extractor `cells`: how much each cell of a grid changes, and the cells that change a lot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vadpipe.extractors.base import ArraySpec, Config, Extractor, Rows, Runtime, one_row_each
from vadpipe.extractors.clips import Clip, ClipRule
from vadpipe.extractors.errors import ExtractorError

MOST_CELLS = 500


class CellsConfig(Config):
    """Settings of `cells`."""

    rows: int = Field(default=20, ge=1, description="rows of the grid")
    columns: int = Field(default=25, ge=1, description="columns of the grid")
    threshold: float = Field(
        default=4.0, ge=0, description="a cell that changes more, in grey values, is an object"
    )
    length: int = Field(default=8, ge=2, description="frames of a clip")

    @model_validator(mode="after")
    def _few_cells(self) -> Self:
        if self.rows * self.columns > MOST_CELLS:
            raise ValueError(f"{self.rows} x {self.columns} cells: take at most {MOST_CELLS}")
        return self


class Cells(Extractor[CellsConfig]):
    """The change of every cell in a row a clip, and one row for each cell that is busy.

    The axis "snippet" has exactly one row a clip. The axis "object" is ragged: a clip has as many
    rows as busy cells, from none to all of them. Both depend on the frames of the clip only, so
    the size of the spans, in which vadpipe works, changes no number.
    """

    name: ClassVar[str] = "cells"
    version: ClassVar[int] = 1  # raise it when the same settings start to compute other numbers
    Config: ClassVar[type[Config]] = CellsConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {"coarse": {"rows": 4, "columns": 5}}

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """One array a clip, three for its busy cells."""
        grid = rows, columns = self.config.rows, self.config.columns
        change = ("snippet", "patch", "feature")
        role = f"patch/{rows}x{columns}"
        return (
            ArraySpec("change", "float32", change, (rows * columns, 1), role=role, grid=grid),
            ArraySpec(
                "boxes", "float32", ("object", "corner"), (4,), role="object/boxes", ragged=True
            ),
            ArraySpec("cell", "int32", ("object",), (), role="object/cell", ragged=True),
            ArraySpec("strength", "float32", ("object",), (), ragged=True),  # no role: an extra
        )

    @property
    def clip_rule(self) -> ClipRule:
        """Clips one after the other, without context."""
        return ClipRule(self.config.length, self.config.length)

    def load(self, runtime: Runtime) -> None:
        """Do nothing: there is no network."""

    def extract(self, clips: Sequence[Clip]) -> dict[str, Rows]:
        """Compute both axes for a batch of clips."""
        change = np.stack([self._change(clip.frames) for clip in clips])  # (n, cells)
        clip, cell = np.nonzero(change > self.config.threshold)  # in the order of the clips
        start = np.array([each.frame_start for each in clips], np.int64)[clip]
        stop = np.array([each.frame_stop for each in clips], np.int64)[clip]
        height, width = clips[0].frames.shape[1:3]
        arrays = {
            "boxes": self._boxes(height, width)[cell],
            "cell": cell.astype(np.int32),
            "strength": change[clip, cell],
        }
        return {
            "snippet": one_row_each(clips, {"change": change[..., None]}),
            "object": Rows(start, stop, arrays, clip_start=start),
        }

    def rows_a_clip(self, axis: str) -> float:
        """Guess for the estimate of an extraction: a tenth of the cells is busy."""
        return 1.0 if axis == "snippet" else self.config.rows * self.config.columns / 10

    def _change(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Mean difference of neighbouring frames in each cell: (T, H, W, 3) -> (cells,)."""
        grey = frames.mean(-1, dtype=np.float32)
        change = np.abs(np.diff(grey, axis=0)).mean(0)  # (H, W)
        boxes = self._boxes(*change.shape).astype(int)
        return np.array([change[y0:y1, x0:x1].mean() for x0, y0, x1, y1 in boxes], np.float32)

    def _boxes(self, height: int, width: int) -> NDArray[np.float32]:
        """x0, y0, x1, y1 of every cell in pixels, (cells, 4), row by row.

        Raises:
            ExtractorError: a cell would be empty.
        """
        rows, columns = self.config.rows, self.config.columns
        if height < rows or width < columns:
            raise ExtractorError(
                f"frames of {height} x {width} are smaller than the grid of {rows} x {columns}: "
                "set fewer rows and columns"
            )
        tops = pairwise(np.linspace(0, height, rows + 1).astype(int))
        lefts = list(pairwise(np.linspace(0, width, columns + 1).astype(int)))
        boxes = [(x0, y0, x1, y1) for y0, y1 in tops for x0, x1 in lefts]
        return np.array(boxes, np.float32)
