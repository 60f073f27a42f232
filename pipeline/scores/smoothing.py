"""Temporal smoothing of the rows of a video: Gaussian or median, off by default."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from ...data_manifests.errors import VadpipeError
from ...data_manifests.settings import Settings
from .frames import MetricsError
from .held_out import HeldOut

RAW = "raw"  # the column of scores as they were before smoothing
REACH = 4.0  # standard deviations of a Gaussian that are used; beyond lies 6e-5 of its weight
CELLS = 4_000_000  # numbers in memory at once for medians

_TEXT = re.compile(r"(gaussian|median):([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)(s|f|)")


class SmoothError(VadpipeError, ValueError):
    """Smoothing that cannot be done; the message says what to do."""


class Smoothing(Settings):
    """How scores are smoothed over time. As text: `gaussian:0.5s`, `median:9`.

    A row stands at the middle of its frames. Edges, gaps and rows of different length need no
    padding: the rows that are there share the weight.

    Attributes:
        kind: gaussian is the mean of all rows within 4 standard deviations, weighted by their
            distance; median is that of the rows less than half the width away.
        width: standard deviation of the Gaussian, or whole width of the window of the median.
        unit: s are seconds, f are frames.
    """

    kind: Literal["gaussian", "median"]
    width: float = Field(gt=0, allow_inf_nan=False)
    unit: Literal["s", "f"] = "f"

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, values: Any) -> Any:
        if not isinstance(values, str):
            return values
        found = _TEXT.fullmatch(values.strip())
        if found is None:
            raise ValueError(
                f"{values!r} is no smoothing: write KIND:WIDTH, as gaussian:0.5s (standard "
                "deviation, in seconds) or median:9 (whole width, in frames)"
            )
        return {"kind": found[1], "width": float(found[2]), "unit": found[3] or "f"}

    @property
    def text(self) -> str:
        """What it is called in results."""
        return f"{self.kind}:{self.width:g}{'s' if self.unit == 's' else ''}"

    def frames(self, fps: float) -> float:
        """The width in frames."""
        return self.width * fps if self.unit == "s" else self.width


def smooth_rows(
    frame_start: ArrayLike,
    frame_stop: ArrayLike,
    score: ArrayLike,
    fps: float,
    smoothing: Smoothing,
) -> NDArray[np.float64]:
    """Smooth the scores of one video.

    Args:
        frame_start:
            (n,) first frame of each row, in any order.
        frame_stop:
            (n,) one past the last.
        score:
            (n,) finite.
        fps:
            Frames per second, for widths in seconds.
        smoothing:
            How.

    Returns:
        (n,), a score for each row, from the lowest to the highest of the given ones.

    Raises:
        MetricsError: a score is not finite.
        SmoothError: a width in seconds needs a frame rate, which is not positive.
    """
    first, last = np.asarray(frame_start, np.float64), np.asarray(frame_stop, np.float64)
    values = np.asarray(score, np.float64)
    if not np.isfinite(values).all():
        raise MetricsError("scores are not finite")
    if smoothing.unit == "s" and not (np.isfinite(fps) and fps > 0):
        raise SmoothError(f"{fps} frames per second: give the width of --smooth in frames")
    if not len(values):
        return values
    middle = (first + last) / 2
    order = np.lexsort((values, last, middle))
    at, sorted_values = middle[order], values[order]
    smooth = _gaussian if smoothing.kind == "gaussian" else _median
    result = np.empty_like(values)
    result[order] = smooth(at, sorted_values, smoothing.frames(fps))
    return np.clip(result, values.min(), values.max())


def smooth_held_out(
    held_out: HeldOut, smoothing: Smoothing, column: str = "score", *, keep_raw: bool = False
) -> HeldOut:
    """Smooth a column of held-out rows, so that a threshold from them fits smoothed scores.

    Args:
        held_out:
            Of a model or a score folder.
        smoothing:
            As the scores are smoothed.
        column:
            What is smoothed.
        keep_raw:
            Keep what was there as the column `RAW`.

    Raises:
        SmoothError: the width is in seconds, and the rows do not say their frame rates.
        HeldOutError: there is no such column.
    """
    fps = held_out.fps if smoothing.unit == "s" else {}
    if smoothing.unit == "s" and (lost := sorted(set(held_out.videos) - set(fps))):
        raise SmoothError(
            f"the held-out rows do not say the frame rate of {', '.join(lost[:5])}: give the width "
            f"of {smoothing.text} in frames, or train the model again with --force"
        )
    values = held_out.values(column)
    smooth = np.empty_like(values)
    for video_id, rows in held_out.rows_of.items():
        part = held_out.of_video(video_id)
        first, last = (part.table[name].to_numpy() for name in ("frame_start", "frame_stop"))
        rate = fps.get(video_id, 1.0)
        smooth[rows] = smooth_rows(first, last, part.values(column), rate, smoothing)
    table = held_out.table
    if keep_raw:
        table = table.append_column(RAW, table[column])
    at = table.column_names.index(column)
    return HeldOut(table.set_column(at, column, pa.array(smooth)))


def _gaussian(
    at: NDArray[np.float64], values: NDArray[np.float64], deviation: float
) -> NDArray[np.float64]:
    """Weighted means; `at` ascends. Differences to the row itself are added, so that equal scores
    stay what they are."""
    weights, sums = np.ones(len(at)), np.zeros(len(at))
    for step in range(1, len(at)):
        apart = (at[step:] - at[:-step]) / deviation
        near = np.flatnonzero(apart <= REACH)
        if not len(near):
            break  # rows further on are further away
        weight = np.exp(-0.5 * apart[near] ** 2)
        difference = weight * (values[near + step] - values[near])
        weights[near] += weight
        weights[near + step] += weight
        sums[near] += difference
        sums[near + step] -= difference
    return values + sums / weights


def _median(
    at: NDArray[np.float64], values: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    """Medians of windows; `at` ascends. Of two middle values it is their mean."""
    begin = np.searchsorted(at, at - width / 2, side="right")
    end = np.searchsorted(at, at + width / 2, side="left")
    alone = np.arange(len(at))  # a width below one step of a float leaves the row itself
    begin, end = np.minimum(begin, alone), np.maximum(end, alone + 1)
    result = np.empty_like(values)
    counts = end - begin
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        for some in np.array_split(rows, max(1, len(rows) * int(count) // CELLS)):
            windows = begin[some][:, None] + np.arange(count)
            result[some] = np.median(values[windows], axis=1)
    return result
