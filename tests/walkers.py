"""Bags of objects in memory: people who walk one way in a lane, and one odd object."""

from __future__ import annotations

from typing import Any

import numpy as np

from vadpipe.detectors.base import Bag, Track
from vadpipe.extractors.networks.coco import COCO

FRAMES, FPS, SIZE = 60, 10.0, (120, 200)
ODD_FROM = 30
VECTORS = ("deep", "pose", "reid")
USUAL: dict[str, Any] = {
    **{"speed": 2.0, "foot": 100.0, "height": 20.0, "width": 8.0, "label": "person"},
    **{"deep": 0, "pose": 0, "reid": 0},
}
ODD: dict[str, dict[str, Any]] = {
    "speed": {"speed": 7.0},
    "direction": {"speed": -2.0},
    "place": {"foot": 50.0},
    "size": {"height": 34.0, "width": 14.0},
    "class": {"label": "bicycle"},
    "stay": {"speed": 0.0},
    "deep": {"deep": 1},
    "pose": {"pose": 1},
    "reid": {"reid": 1},
}


def walkers(seed: int, odd: dict[str, Any] | None = None, scene: str | None = None) -> Bag:
    """A clip of five walkers; something odd comes in at `ODD_FROM` and stays to the end."""
    rng = np.random.default_rng(seed)
    actors = [(0, rng.uniform(0, 200), USUAL) for _ in range(5)]
    if odd is not None:
        actors.append((ODD_FROM, 60.0, {**USUAL, **odd}))
    frame, rows = [], []
    for now in range(FRAMES):
        for first, x, what in actors:
            if now < first:
                continue
            speed = what["speed"] + (rng.normal(0, 0.1) if what["speed"] else 0)
            place = (x + what["speed"] * (now - first)) % 180 + 10
            foot = what["foot"] + rng.normal(0, 1.5)
            height, width = (what[n] * rng.uniform(0.95, 1.05) for n in ("height", "width"))
            box = (place - width / 2, foot - height, place + width / 2, foot)
            classes = np.zeros(80)
            classes[COCO.index(what["label"])] = rng.uniform(0.8, 0.9)
            noise = [rng.normal(0, 0.03, 4) for _ in range(2)]
            noise.append(noise[0][::-1])  # draws nothing, so that the rest is as it was
            vectors = [np.eye(4)[what[n]] + v for n, v in zip(VECTORS, noise, strict=True)]
            frame.append(now)
            rows.append((box, (speed, rng.normal(0, 0.05)), classes, *vectors))
    start = np.array(frame, np.int64)
    names = ("boxes", "velocity", "classes", "appearance", "pose", "reid")
    arrays = {
        f"object/{name}": np.array([row[i] for row in rows], np.float32)
        for i, name in enumerate(names)
    }
    arrays["object/objectness"] = np.ones(len(rows), np.float32)
    tracks = {role: Track(values, start, start + 1) for role, values in arrays.items()}
    every = np.arange(FRAMES, dtype=np.int64)
    counts = np.bincount(start, minlength=FRAMES).astype(np.int32)
    tracks["frame/objects"] = Track(counts, every, every + 1)
    tracks["frame/size"] = Track(np.tile(np.array(SIZE, np.int32), (FRAMES, 1)), every, every + 1)
    return Bag(f"v{seed}", None, FRAMES, FPS, tracks, scene)
