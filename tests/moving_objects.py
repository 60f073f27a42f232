"""Bags of objects with crops in memory: a bright bar that moves to the right, or stands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vadpipe.detectors.base import Bag, Track

SIDE, CONTEXT = 16, 15
SIZE = (60, 90)


def bars(places: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Pictures of a bar two pixels wide at these columns: (...) -> (..., SIDE, SIDE, 3)."""
    column = np.arange(SIDE)
    near = (column - places[..., None]) % SIDE < 2
    shades = np.where(near, 230, 20).astype(np.uint8)
    return np.broadcast_to(shades[..., None, :, None], (*places.shape, SIDE, SIDE, 3)).copy()


def moving(
    seed: int,
    *,
    frames: int = 60,
    each: int = 1,
    speed: int = 1,
    context: int = CONTEXT,
    empty: tuple[int, ...] = (),
) -> Bag:
    """A clip with `each` objects in every frame but the empty ones."""
    rng = np.random.default_rng(seed)
    count = np.array([0 if i in empty else each for i in range(frames)], np.int32)
    frame = np.repeat(np.arange(frames, dtype=np.int64), count)
    phase = rng.integers(SIDE, size=len(frame))
    around = np.clip(frame[:, None] + np.arange(-context, context + 1), 0, frames - 1)
    crops = bars(phase[:, None] + speed * (around - frame[:, None]))
    corner = rng.uniform(5, 40, (len(frame), 2))
    boxes = np.concatenate([corner, corner + 12], axis=1).astype(np.float32)
    classes = np.full((len(frame), 80), 0.01, np.float16)
    classes[:, 0] = 0.9
    teacher = rng.normal(size=(len(frame), 4)).astype(np.float16)
    every = np.arange(frames, dtype=np.int64)
    pixels = bars(every * speed + int(rng.integers(SIDE)))
    sizes = np.tile(np.array(SIZE, np.int32), (frames, 1))
    tracks = {
        "object/crops": Track(crops, frame, frame + 1),
        "object/boxes": Track(boxes, frame, frame + 1),
        "object/classes": Track(classes, frame, frame + 1),
        "object/teacher": Track(teacher, frame, frame + 1),
        "frame/objects": Track(count, every, every + 1),
        "frame/size": Track(sizes, every, every + 1),
        "pixels": Track(pixels, every, every + 1),
    }
    return Bag(f"v{seed}", None, frames, 10.0, tracks)
