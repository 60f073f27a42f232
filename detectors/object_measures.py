"""What can be measured of each object of a video: motion, place, size, classes, stay, vectors."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .base import Bag, DetectorError, Track
from .cells import pictures
from .object_links import stays
from .object_maps import Objects, array_of

MotionSource = Literal["objects", "flow", "velocity"]
Floats = NDArray[np.float64]

# Vectors of attributes: role, and how to get it.
VECTORS = {
    "deep": (
        "object/appearance",
        "extract objects with --set teacher=efficientnet_lite0 --set appearance=true, "
        "or leave deep out of the attributes",
    ),
    "pose": (
        "object/pose",
        "extract objects with --set pose=keypointrcnn, or leave pose out of the attributes",
    ),
    "reid": (
        "object/reid",
        "extract objects with --set reid=osnet, or leave reid out of the attributes",
    ),
}
CLASSES = (
    "object/classes",
    "extract objects with a detector that knows classes, as --set detector=yolox, or leave class "
    "out of the attributes",
)
BOX_FLOW = (
    "object/flow",
    "extract objects with --set flow=dis, or take motion=flow or motion=velocity",
)
VELOCITY = ("object/velocity", "import tracks with vadpipe import, or take motion=objects")


@dataclass(frozen=True)
class Measures:
    """What is measured of n objects; what no attribute asks for is None.

    Attributes:
        owner: (n,) number of the video of each object.
        row: (n,) row of the object in its video.
        foot: (n, 2) x of the middle and y of the lower edge of the box, in pixels.
        sides: (n, 2) width and height of the box, in pixels.
        speed: (n,) pixels a frame.
        heading: (n, 2) unit vectors to the right and down; 0 where nothing moves.
        classes: (n, 80) objectness times the probability of each class.
        stay: (n,) seconds for which it has been where it is.
        deep: (n, D) vectors of the appearance.
        pose: (n, D) vectors of the pose.
        reid: (n, D) vectors that tell persons apart.
    """

    owner: NDArray[np.int64]
    row: NDArray[np.int64]
    foot: Floats
    sides: Floats
    speed: Floats | None = None
    heading: Floats | None = None
    classes: Floats | None = None
    stay: Floats | None = None
    deep: Floats | None = None
    pose: Floats | None = None
    reid: Floats | None = None

    def __len__(self) -> int:
        return len(self.row)

    def only(self, names: Collection[str]) -> Measures:
        """Owners, rows, feet and sides, and these measures: less to copy than all of them."""
        kept = {"owner", "row", "foot", "sides", *names}
        left_out: dict[str, Any] = {name: None for name in vars(self) if name not in kept}
        return replace(self, **left_out)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Measures:
        """Some of the objects."""
        found: dict[str, Any] = {
            name: None if values is None else values[chosen] for name, values in vars(self).items()
        }
        return replace(self, **found)


def joined(parts: list[Measures]) -> Measures:
    """The objects of several videos; all have the same measures."""
    found: dict[str, Any] = {
        name: None if first is None else np.concatenate([vars(part)[name] for part in parts])
        for name, first in vars(parts[0]).items()
    }
    return replace(parts[0], **found)


def measure(
    bag: Bag,
    objects: Objects,
    attributes: Collection[str],
    motion: MotionSource,
    rows: NDArray[np.int64],
    owner: int = 0,
) -> Measures:
    """Measure the objects of some rows.

    Args:
        bag:
            The video.
        objects:
            What `read_objects` returned of it.
        attributes:
            Which are wanted.
        motion:
            Where motion comes from: `object/flow`, dense flow, or `object/velocity` of imported
            tracks.
        rows:
            Ascending.
        owner:
            Number of the video.

    Raises:
        DetectorError: an array is missing or not finite; the message says how to get it.
    """
    chosen = np.flatnonzero(np.isin(objects.row, rows))
    boxes, row = objects.boxes[chosen], objects.row[chosen]
    foot = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]], axis=1)
    found: dict[str, Floats] = {}
    if {"speed", "direction"} & set(attributes):
        found["speed"], mean = MOTION[motion](bag, objects, chosen)
        length = np.linalg.norm(mean, axis=1, keepdims=True)
        found["heading"] = np.divide(mean, length, out=np.zeros_like(mean), where=length > 0)
    # Not an attribute only: the explanation names what an object is.
    if "class" in attributes or CLASSES[0] in bag.tracks:
        classes = _values(bag, CLASSES, chosen)
        trust = _values(bag, ("object/objectness", "extract objects again"), chosen)
        found["classes"] = classes * trust[:, None]
    if "stay" in attributes:
        if not bag.fps > 0:
            raise DetectorError(
                f"video {bag.video_id!r} has no frame rate: leave stay out of the attributes"
            )
        found["stay"] = stays(objects, bag.fps)[chosen]
    for name in sorted(VECTORS.keys() & set(attributes)):
        found[name] = _values(bag, VECTORS[name], chosen)
    sides = boxes[:, 2:] - boxes[:, :2]
    return Measures(np.full(len(row), owner, np.int64), row, foot, sides, **found)


def _values(bag: Bag, role: tuple[str, str], chosen: NDArray[np.int64]) -> Floats:
    track = array_of(bag, *role)
    if not len(chosen):
        return np.zeros((0, *track.array.shape[1:]))
    first = int(chosen[0])
    values = track.rows(first, int(chosen[-1]) + 1)[chosen - first].astype(np.float64)
    if not np.isfinite(values).all():
        raise DetectorError(f"video {bag.video_id!r}: {role[0]!r} has values that are not finite")
    return values


def _by_objects(bag: Bag, objects: Objects, chosen: NDArray[np.int64]) -> tuple[Floats, Floats]:
    flow = _values(bag, BOX_FLOW, chosen)  # median speed, mean speed, mean to the right, and down
    if flow.shape[1:] != (4,):
        raise DetectorError(f"video {bag.video_id!r}: rows of 'object/flow' are not 4 numbers")
    return flow[:, 0], flow[:, 2:]


def _by_velocity(bag: Bag, objects: Objects, chosen: NDArray[np.int64]) -> tuple[Floats, Floats]:
    velocity = _values(bag, VELOCITY, chosen)
    return np.linalg.norm(velocity, axis=1), velocity


def _by_flow(bag: Bag, objects: Objects, chosen: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Median speed and median flow in each box, in pixels of the footage: (n,), (n, 2).

    The median, since high percentiles of a box are legs, edges and neighbours.
    """
    track = pictures(bag, "flow", 2)
    size = np.array(track.array.shape[1:3])
    scale = np.array(objects.size) / size  # pixels of the footage a pixel of flow: down, right
    speed, mean = np.zeros(len(chosen)), np.zeros((len(chosen), 2))
    rows = objects.row[chosen]
    field_of = _fields(bag, track, objects)
    for row in np.unique(rows).tolist():
        field = field_of(row) * scale[::-1].astype(np.float32)
        for at in np.flatnonzero(rows == row).tolist():
            x0, y0, x1, y1 = objects.boxes[chosen[at]]
            top, bottom = _span(y0 / scale[0], y1 / scale[0], int(size[0]))
            left, right = _span(x0 / scale[1], x1 / scale[1], int(size[1]))
            inside = field[top:bottom, left:right].reshape(-1, 2)
            speed[at] = np.median(np.hypot(inside[:, 0], inside[:, 1]))
            mean[at] = np.median(inside, axis=0)
    if not (np.isfinite(speed).all() and np.isfinite(mean).all()):
        raise DetectorError(f"video {bag.video_id!r}: its flow has values that are not finite")
    return speed, mean


MOTION = {"objects": _by_objects, "flow": _by_flow, "velocity": _by_velocity}


def _span(low: float, high: float, length: int) -> tuple[int, int]:
    """Pixels from low to high within a side, at least one."""
    first = min(max(int(np.floor(low)), 0), length - 1)
    return first, min(max(int(np.ceil(high)), first + 1), length)


def _fields(bag: Bag, track: Track, objects: Objects) -> Callable[[int], NDArray[np.float32]]:
    """Read the field of a row of objects."""
    at = np.searchsorted(track.frame_start, objects.frame_start)

    def read(row: int) -> NDArray[np.float32]:
        frame, number = int(objects.frame_start[row]), int(at[row])
        if number >= len(track) or track.frame_start[number] != frame:
            raise DetectorError(
                f"video {bag.video_id!r} has objects but no flow in frame {frame}: extract flow "
                "and objects with the same stride"
            )
        return np.asarray(track.rows(number, number + 1)[0], np.float32)

    return read
