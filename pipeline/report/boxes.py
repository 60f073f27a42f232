"""Boxes of a detector, drawn on the peak frames of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from ..scores.folder import ScoreFolder
from ..scores.regions import boxes_near
from .thumbnails import THUMBNAIL, Pixels

MOST = 100  # boxes that are drawn in one picture, highest scores first
HIGHEST, OTHERS = (255, 64, 32), (255, 255, 255)  # colours


class EventBoxes:
    """The boxes of the events of one video after another.

    Args:
        folder:
            The score folder.

    Attributes:
        notes: (video id, peak frame) -> how many boxes there are, in words.
    """

    def __init__(self, folder: ScoreFolder) -> None:
        self.notes: dict[tuple[str, int], str] = {}
        self._folder = folder
        self._boxes: dict[int, pa.Table] = {}

    def open(self, video_id: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Read the boxes near the peaks of the events of a video."""
        self._boxes = {}
        try:
            table = self._folder.regions(video_id)
        except Exception as error:  # a damaged file must not stop the page: it shows the error
            for event in events:
                self.notes[video_id, event["peak_frame"]] = f"No boxes. {error}"
            return
        if table is None:
            return
        for event in events:
            peak = event["peak_frame"]
            frame, boxes = boxes_near(table, peak, event["frame_start"], event["frame_stop"])
            self._boxes[peak] = boxes
            self.notes[video_id, peak] = _note(frame, peak, boxes)

    def draw(self, frame: int, pixels: Pixels) -> Pixels:
        """The picture of a frame with its boxes; itself where it has none."""
        boxes = self._boxes.get(frame)
        return pixels if boxes is None or not boxes.num_rows else draw_boxes(pixels, boxes)


def draw_boxes(pixels: Pixels, boxes: pa.Table) -> Pixels:
    """A copy of an (H, W, 3) picture with boxes; the first of them is marked.

    Args:
        pixels:
            The frame in the size of the video.
        boxes:
            Of `REGION_SCHEMA`, highest score first; `MOST` are drawn.
    """
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    thickness = max(1, round(max(image.size) / THUMBNAIL))  # one pixel of the thumbnail
    corners = np.stack([boxes[name].to_numpy()[:MOST] for name in ("x0", "y0", "x1", "y1")], axis=1)
    limit = 4 * max(image.size)  # drawing far outside of the picture takes time, and shows nothing
    corners = np.clip(np.round(corners), -limit, limit) - [0, 0, 1, 1]
    for number in range(len(corners) - 1, -1, -1):  # the highest last, so that none covers it
        x0, y0, x1, y1 = map(int, corners[number])
        colour, width = (OTHERS, thickness) if number else (HIGHEST, 2 * thickness)
        pen.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=colour, width=width)
    return np.asarray(image)


def _note(frame: int, peak: int, boxes: pa.Table) -> str:
    if not boxes.num_rows:
        return "Boxes: none in this event."
    highest = boxes.slice(0, 1).to_pylist()[0]
    words = ", ".join(filter(None, (highest["label"], highest["explain"])))
    where = "" if frame == peak else f" in frame {frame}, the nearest to the peak that has any"
    drawn = f", {MOST} drawn" if boxes.num_rows > MOST else ""
    marked = f"the marked one scores {highest['score']:.4g}{f' ({words})' if words else ''}"
    return f"Boxes: {boxes.num_rows}{where}{drawn}; {marked}."
