"""What stands below the picture of a film: the score curve with a cursor, events, a caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ...data_manifests.plain_text import one_line
from ..report.curves import timecode

CURVE, CAPTION = 96, 24  # pixels
TEXT = 13
MARGIN = 6  # pixels between the curve and the border of its part
GROUND, LINE, SHADE = (18, 20, 22), (156, 204, 234), (38, 54, 66)
HIGH, EVENT, CURSOR, INK, SOFT = (
    *((255, 138, 76), (217, 72, 15), (255, 255, 255), (233, 234, 234), (160, 167, 173)),
)
Pixels = NDArray[np.uint8]


class Panel:
    """The panel of one video.

    Args:
        width:
            In pixels.
        first:
            First scored frame.
        lengths:
            (k,) frames of each run of equal frames.
        values:
            (k,) their score.
        high:
            The threshold; None draws none.
        events:
            Rows of `EVENT_SCHEMA`, in the order of time, each with `said`, its caption.
        name:
            Of the video.
        numbers:
            Write the score of the frame beside its time.
    """

    def __init__(
        self,
        width: int,
        first: int,
        lengths: NDArray[np.int64],
        values: NDArray[np.float64],
        high: float | None,
        events: Sequence[Mapping[str, Any]],
        name: str,
        *,
        numbers: bool = False,
    ) -> None:
        self.width, self.height = width, CURVE + CAPTION
        self._first, self._ends = first, np.cumsum(lengths)
        self._values, self._events = values, events
        self._font = ImageFont.load_default(TEXT)
        self._name = one_line(name)
        self._numbers = numbers
        levels = [float(values.min()), float(values.max())]
        if high is not None and np.isfinite(high):
            levels.append(high)
        self._low, self._span = min(levels), (max(levels) - min(levels)) or 1.0
        self._still = self._drawn(high)

    def x(self, frame: int) -> int:
        """The column of a frame."""
        share = (frame - self._first + 0.5) / self._ends[-1]
        return int(np.clip(share * self.width, 0, self.width - 1))

    def y(self, value: float) -> int:
        """The row of a score."""
        share = (value - self._low) / self._span
        return round(CURVE - MARGIN - share * (CURVE - 3 * MARGIN))

    def score(self, frame: int) -> float:
        """The score of a frame."""
        place = int(np.searchsorted(self._ends, frame - self._first, side="right"))
        return float(self._values[min(max(place, 0), len(self._values) - 1)])

    def event_at(self, frame: int) -> Mapping[str, Any] | None:
        """The event that a frame lies in."""
        inside = (e for e in self._events if e["frame_start"] <= frame < e["frame_stop"])
        return next(inside, None)

    def at(self, frame: int, seconds: float) -> Pixels:
        """The panel while a frame is shown: (height, width, 3) uint8 RGB."""
        image = Image.fromarray(self._still)
        pen = ImageDraw.Draw(image)
        x = self.x(frame)
        pen.line((x, 0, x, CURVE - 1), fill=CURSOR, width=2)
        event = self.event_at(frame)
        said = self._name if event is None else str(event["said"])
        score = f"{self.score(frame):.4g}   " if self._numbers else ""
        clock = f"{timecode(seconds)}   {score}"
        pen.text((MARGIN, CURVE + 4), clock, fill=INK, font=self._font)
        start = MARGIN + round(pen.textlength(clock, font=self._font))
        said = self._fitting(pen, said, self.width - start - MARGIN)
        pen.text((start, CURVE + 4), said, fill=SOFT if event is None else HIGH, font=self._font)
        return np.asarray(image)

    def _fitting(self, pen: ImageDraw.ImageDraw, text: str, width: int) -> str:
        """As much of a text as there is room for."""
        most = len(text)
        while most and pen.textlength(text[:most], font=self._font) > width:
            most -= max(1, most // 8)
        return text if most == len(text) else f"{text[: max(most - 2, 0)]}.."

    def _drawn(self, high: float | None) -> Pixels:
        """All that does not move."""
        image = Image.new("RGB", (self.width, self.height), GROUND)
        pen = ImageDraw.Draw(image)
        for event in self._events:
            span = self.x(event["frame_start"]), self.x(event["frame_stop"] - 1)
            pen.rectangle((span[0], 0, span[1], 4), fill=EVENT)
        edges = np.linspace(0, self._ends[-1], self.width + 1)
        first = np.searchsorted(self._ends, edges[:-1], side="right")
        last = np.maximum(np.searchsorted(self._ends, edges[1:], side="left"), first)
        for x in range(self.width):  # the lowest and the highest score of each column of pixels
            own = self._values[first[x] : last[x] + 1]
            top, bottom = self.y(float(own.max())), self.y(float(own.min()))
            pen.line((x, top, x, CURVE - 1), fill=SHADE)
            pen.line((x, top, x, max(bottom, top + 1)), fill=LINE)
        if high is not None and np.isfinite(high):
            for x in range(0, self.width, 10):
                pen.line((x, self.y(high), min(x + 5, self.width - 1), self.y(high)), fill=HIGH)
        return np.asarray(image)
