"""Boxes with track numbers in MOT text, the format of the MOT Challenge and of most trackers.

A line is `frame, id, left, top, width, height[, conf[, ...]]`, separated by commas or blanks.
Frames are counted from 1. Further values (class, visibility, world coordinates) are not used. Lines
with conf 0 are to be ignored, as the format says; conf -1, or none, is unknown and counts as 1.

Pixels are taken as they are written. The MOT Challenge counts them from 1, but trackers write them
from 0; a shift of one pixel changes no number that a detector here could tell apart.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extractors.base import ArraySpec, Rows
from .files import MAX_TEXT_BYTES, FeatureFileError

LARGEST = 1 << 53  # id or frame: float64 holds every whole number up to here
GAP = 10  # frames: rows of a track that are further apart say nothing of its speed
SPECS = (
    ArraySpec("objects", "int32", ("frame",), (), role="frame/objects"),
    ArraySpec("frame_size", "int32", ("frame", "side"), (2,), role="frame/size"),
    *(
        ArraySpec(name, dtype, dims, shape, role=f"object/{name}", ragged=True)
        for name, dtype, dims, shape in (
            ("boxes", "float32", ("object", "corner"), (4,)),
            ("scores", "float32", ("object",), ()),
            ("objectness", "float32", ("object",), ()),
            ("track", "int64", ("object",), ()),
            ("velocity", "float32", ("object", "direction"), (2,)),
        )
    ),
)


@dataclass(frozen=True)
class MotBoxes:
    """The boxes of one video, sorted by frame, then by falling score, then by track.

    Attributes:
        frame: (n,) int64, from 0.
        track: (n,) int64.
        box: (n, 4) float64: x0, y0, x1, y1 in pixels, x1 and y1 one past the box.
        score: (n,) float64, above 0 and at most 1.
    """

    frame: NDArray[np.int64]
    track: NDArray[np.int64]
    box: NDArray[np.float64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.frame)

    def rows(self, n_frames: int, size: tuple[int, int]) -> dict[str, Rows]:
        """The arrays of `SPECS`, as the extractor `objects` would make them of its boxes.

        Boxes are clipped to the frame; what is then less than a pixel wide or high is left out.

        Args:
            n_frames:
                Frames of the video.
            size:
                (height, width) of its frames.
        """
        limit = np.array([size[1], size[0], size[1], size[0]], np.float64)
        box = np.clip(self.box, 0.0, limit)
        kept = ((box[:, 2:] - box[:, :2]) >= 1.0).all(axis=1)
        frame = self.frame[kept]
        counts = np.bincount(frame, minlength=n_frames).astype(np.int32)
        every = np.arange(n_frames, dtype=np.int64)
        arrays: dict[str, NDArray[Any]] = {
            "boxes": box[kept].astype(np.float32),
            "scores": self.score[kept].astype(np.float32),
            "objectness": self.score[kept].astype(np.float32),
            "track": self.track[kept],
            "velocity": self.velocity()[kept].astype(np.float32),
        }
        sizes = np.tile(np.array(size, np.int32), (n_frames, 1))
        return {
            "frame": Rows(every, every + 1, {"objects": counts, "frame_size": sizes}),
            "object": Rows(frame, frame + 1, arrays, clip_start=frame),
        }

    def velocity(self) -> NDArray[np.float64]:
        """How the centres move: (n, 2), pixels a frame to the right and down.

        From the row of the same track before to the one after; from or to the box itself where one
        of them is missing, or more than `GAP` frames away; 0 where both are.
        """
        order = np.lexsort((self.frame, self.track))
        centre = (self.box[order, :2] + self.box[order, 2:]) / 2
        frame, track = self.frame[order], self.track[order]
        linked = (np.diff(track) == 0) & (np.diff(frame) <= GAP)  # (n - 1,)
        here = np.arange(len(order))
        before = here - np.concatenate([[False], linked])[: len(order)]
        after = here + np.concatenate([linked, [False]])[: len(order)]
        moved, frames = centre[after] - centre[before], frame[after] - frame[before]
        found = np.empty((len(order), 2))
        found[order] = moved / np.maximum(frames, 1)[:, None]
        return found


def read_mot(path: Path) -> MotBoxes:
    """Read the boxes of one video.

    Raises:
        FeatureFileError: a line cannot be read or is impossible, or a track has two boxes in a
            frame; the message names file and line.
    """
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise FeatureFileError(f"{path.name}: a text of more than {MAX_TEXT_BYTES:,} bytes")
    rows, places = array("d"), array("q")  # lists of numbers would take many times the file
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = _row(line)
                except ValueError as error:
                    raise FeatureFileError(f"{path.name}, line {number}: {error}") from error
                if row[6] != 0:
                    rows.extend(row)
                    places.append(number)
    except UnicodeDecodeError as error:
        raise FeatureFileError(f"{path.name} is not text in UTF-8: {error}") from error
    values = np.array(rows, np.float64).reshape(-1, 7)
    frame, track = values[:, 0].astype(np.int64) - 1, values[:, 1].astype(np.int64)
    order = np.lexsort((track, frame))
    twice = np.flatnonzero((np.diff(frame[order]) == 0) & (np.diff(track[order]) == 0))
    if len(twice):
        at = int(order[twice[0] + 1])
        raise FeatureFileError(
            f"{path.name}, line {places[at]}: track {track[at]} has a second box in frame "
            f"{frame[at] + 1}"
        )
    box = np.concatenate([values[:, 2:4], values[:, 2:4] + values[:, 4:6]], axis=1)
    score = np.where(values[:, 6] == -1, 1.0, values[:, 6])
    order = np.lexsort((track, -score, frame))
    return MotBoxes(frame[order], track[order], box[order], score[order])


def _row(line: str) -> list[float]:
    """Frame, track, left, top, width, height, conf."""
    cells = line.split(",") if "," in line else line.split()
    if len(cells) < 6:
        raise ValueError(f"{len(cells)} values; frame, id, left, top, width, height are needed")
    if "_" in line:
        raise ValueError("a number has an underscore")
    values = [float(cell) for cell in cells[:7]]
    values += [-1.0] * (7 - len(values))
    frame, track, *box, conf = values
    if not np.isfinite(values).all():
        raise ValueError("a number is not finite")
    if frame != int(frame) or not 1 <= frame < 1 << 40 or track != int(track):
        raise ValueError("frame and id have to be whole numbers, frames from 1")
    if track > LARGEST:
        raise ValueError(f"the id is above {LARGEST:,}")
    if track < 0:
        raise ValueError(
            "the id is negative, so these are boxes without tracks: extract them with objects:boxes"
        )
    if box[2] < 0 or box[3] < 0:
        raise ValueError("a width or height is negative")
    if conf != -1 and not 0 <= conf <= 1:
        raise ValueError(f"conf {conf:g} is neither in 0 to 1 nor -1 (unknown): scale it")
    return values
