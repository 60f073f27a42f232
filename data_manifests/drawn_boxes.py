"""Boxes of everything that is drawn, with class probabilities: what a good detector would find.

A network for photographs knows no drawn figures, so a drawn scene brings its own boxes file, in the
form that the extractor `objects` reads (`detector = "boxes"`). Anomalies are in it like everything
else; nothing says which boxes are anomalies.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from .synthetic_scene import DETAIL, FIGURES, WALL, Actor, Brush, Camera

Row = tuple[str, int, int, int, int, int, str, str, str]
COLUMNS = ("video", "frame", "x0", "y0", "x1", "y1", "score", "objectness", "classes")
LEAST = 12  # visible pixels of a box

# How a detector for COCO would see each figure: a rider is a person too, a cart looks like a car.
CLASSES: Mapping[str, Mapping[str, float]] = {
    "walker": {"person": 0.92},
    "runner": {"person": 0.9},
    "cyclist": {"bicycle": 0.88, "person": 0.5},
    "cart": {"car": 0.7, "truck": 0.4},
    "ball": {"sports ball": 0.85},
}
OBJECTNESS, SPREAD = 0.92, 0.02  # the usual one, and how much it and probabilities vary


class _NoPen:
    """Draws nothing: only the map of figures is needed."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: None


def seen_boxes(
    camera: Camera, actors: Sequence[Actor], time: float
) -> list[tuple[int, tuple[int, int, int, int]]]:
    """The boxes around what can be seen of each actor.

    Args:
        camera:
            That looks at the scene.
        actors:
            All that moves.
        time:
            In seconds.

    Returns:
        (number of the actor, (x0, y0, x1, y1)) of those with `LEAST` visible pixels or more; x1 and
        y1 are not included.
    """
    figures = Image.new("I", camera.canvas)
    pen: Any = ImageDraw.Draw(figures)
    seen = [(actor.place(time), number) for number, actor in enumerate(actors)]
    for (x, z), number in sorted(seen, key=lambda row: -row[0][1]):
        if 2 < z < WALL and abs(x) < camera.reach(z) + 3:
            actor = actors[number]
            facing = -1.0 if actor.vx < 0 else 1.0
            place, scale = camera.ground(x, z), camera.scale(z)
            nothing: Any = _NoPen()
            FIGURES[actor.kind](Brush(nothing, pen, place, scale, facing, number + 1), actor, time)
    numbers: NDArray[np.int32] = np.asarray(figures, np.int32)[::DETAIL, ::DETAIL]
    found = []
    slices: Any = ndimage.find_objects(numbers)
    for number, seen_at in enumerate(slices):
        if seen_at is not None and (numbers[seen_at] == number + 1).sum() >= LEAST:
            rows, columns = seen_at
            found.append((number, (columns.start, rows.start, columns.stop, rows.stop)))
    return found


def boxes_of_clip(
    video: str,
    camera: Camera,
    actors: Sequence[Actor],
    rng: np.random.Generator,
    *,
    frames: int,
    fps: int,
) -> Iterator[Row]:
    """The rows of a clip: each box with a score and class probabilities that vary a little.

    Args:
        video:
            Name of the clip, the end of its path.
        camera:
            That looks at the scene.
        actors:
            All that moves.
        rng:
            Of the variation.
        frames:
            Of the clip.
        fps:
            Frames per second.
    """
    empty = True
    for frame in range(frames):
        for number, box in seen_boxes(camera, actors, frame / fps):
            usual = CLASSES[actors[number].kind]
            values = np.array([OBJECTNESS, *usual.values()])
            values += rng.normal(0, SPREAD, len(values))
            objectness, *classes = values.clip(0.02, 0.98).round(3).tolist()
            text = ";".join(f"{name}:{p:.3f}" for name, p in zip(usual, classes, strict=True))
            score = f"{objectness * max(classes):.3f}"
            yield video, frame, *box, score, f"{objectness:.3f}", text
            empty = False
    if empty:
        yield (video, *[""] * (len(COLUMNS) - 1))  # type: ignore[misc]  # known, without boxes


def write_boxes(path: Path, rows: Iterable[Row]) -> None:
    """Write a boxes file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
