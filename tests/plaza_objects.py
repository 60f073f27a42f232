"""Bags of what an object detector would say of a plaza: its figures as boxes, nothing is drawn."""

from __future__ import annotations

import math

import numpy as np

from vadpipe.data_manifests.plaza_scene import LABELS, Mover, View, area, crowd, happening, views
from vadpipe.data_manifests.synthetic_scene import DETAIL
from vadpipe.detectors.base import Bag, Track
from vadpipe.extractors.networks.coco import COCO

FRAMES, FPS = 40, 4
HEIGHT, WIDTH = 240, 360
MISSED = 0.04  # share of the figures of a frame that the detector overlooks
# Width and height in metres; a figure that is drawn larger or smaller is so in its box.
SIDES = {
    **{"walker": (0.6, 1.7), "runner": (0.9, 1.7), "cyclist": (1.7, 1.8), "cart": (1.6, 1.4)},
    "ball": (math.sqrt(area("ball")),) * 2,
}


def plaza_clip(seed: int, event: str | None = None, size: str = "0.3%") -> tuple[Bag, np.ndarray]:
    """A clip of one camera, and which of its frames show the event: (FRAMES,) bool.

    Boxes are off by 2 % of their sides, speeds by a tenth; shadows and who hides whom are left out.
    """
    rng, view = np.random.default_rng(seed), views(HEIGHT, WIDTH)[0]
    movers = crowd(view, rng, FRAMES / FPS)
    if event is not None:
        movers = [happening(view, rng, event, size, FRAMES / FPS), *movers]
    abnormal = np.zeros(FRAMES, bool)
    frame, boxes, velocity, classes = [], [], [], []
    for now in range(FRAMES):
        for number, mover in enumerate(movers):
            box = _box(view, mover, now / FPS)
            if box[2] < 1 or box[0] > WIDTH - 1 or rng.random() < MISSED:
                continue
            since = mover.abnormal_from
            abnormal[now] |= number == 0 and since is not None and now / FPS >= since
            moved = _foot(view, mover, (now + 1) / FPS) - _foot(view, mover, (now - 1) / FPS)
            frame.append(now)
            sides = np.tile(box[2:] - box[:2], 2)
            noisy = box + rng.normal(0, 0.02, 4) * sides
            boxes.append(np.clip(noisy, 0, [WIDTH, HEIGHT] * 2))
            velocity.append(moved / 2 * rng.normal(1, 0.1, 2))
            sure = np.zeros(80)
            sure[COCO.index(LABELS[mover.actor.kind])] = rng.uniform(0.5, 0.95)
            classes.append(sure)
    return _bag(f"{event}-{seed}", frame, boxes, velocity, classes), abnormal


def _foot(view: View, mover: Mover, time: float) -> np.ndarray:
    """Where it stands, in pixels."""
    return np.array(view.ground(*mover.place(time))) / DETAIL


def _box(view: View, mover: Mover, time: float) -> np.ndarray:
    (x, y), metre = _foot(view, mover, time), view.scale(mover.place(time)[1]) / DETAIL
    width, height = (side * mover.size * metre for side in SIDES[mover.actor.kind])
    return np.array([x - width / 2, y - height, x + width / 2, y])


def _bag(name: str, frame: list[int], *columns: list[np.ndarray]) -> Bag:
    start = np.array(frame, np.int64)
    roles = ("object/boxes", "object/velocity", "object/classes")
    arrays = {role: np.array(rows, np.float32) for role, rows in zip(roles, columns, strict=True)}
    arrays["object/objectness"] = np.ones(len(start), np.float32)
    tracks = {role: Track(values, start, start + 1) for role, values in arrays.items()}
    every = np.arange(FRAMES, dtype=np.int64)
    counts = np.bincount(start, minlength=FRAMES).astype(np.int32)
    tracks["frame/objects"] = Track(counts, every, every + 1)
    size = np.tile(np.array([HEIGHT, WIDTH], np.int32), (FRAMES, 1))
    tracks["frame/size"] = Track(size, every, every + 1)
    return Bag(name, None, FRAMES, float(FPS), tracks, "north")
