"""Bags of the plaza from its pixels: clips are drawn, flow is measured in the figures' boxes."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image
from scipy import ndimage

from vadpipe.data_manifests.plaza_scene import (
    LABELS,
    View,
    crowd,
    draw_plaza,
    happening,
    render,
    views,
)
from vadpipe.detectors.base import Bag, Track
from vadpipe.extractors.clips import Clip
from vadpipe.extractors.detection.box_flow import box_flow
from vadpipe.extractors.networks.coco import COCO
from vadpipe.extractors.optical_flow import SpanName

FRAMES, FPS = 30, 10
HEIGHT, WIDTH = 240, 360
LEAST = 12  # pixels of a figure that has a box
EVENT = 1  # number of the event's figure


@cache
def _plaza() -> tuple[View, Image.Image]:
    view = views(HEIGHT, WIDTH)[0]
    return view, draw_plaza(view, np.random.default_rng(0))


@cache
def _drawn(seed: int, event: str | None, size: str) -> tuple[np.ndarray, list[list[tuple]]]:
    """Pictures (FRAMES, H, W, 3), and for each frame the figures: number, kind, box."""
    rng, (view, background) = np.random.default_rng(seed), _plaza()
    movers = crowd(view, rng, FRAMES / FPS)
    if event is not None:
        movers = [happening(view, rng, event, size, FRAMES / FPS), *movers]
    pictures, found = [], []
    for picture, figures in render(view, background, movers, rng, frames=FRAMES, fps=FPS):
        pictures.append(picture)
        seen = np.bincount(figures.ravel(), minlength=len(movers) + 1)
        found.append(
            [
                (number, movers[number - 1].actor.kind, (x.start, y.start, x.stop, y.stop))
                for number, place in enumerate(ndimage.find_objects(figures), start=1)
                if place is not None and seen[number] >= LEAST
                for y, x in [place]
            ]
        )
    return np.stack(pictures), found


def drawn_clip(
    seed: int, event: str | None = None, size: str = "0.1%", span: SpanName = "next"
) -> tuple[Bag, np.ndarray]:
    """A clip, and which of its boxes are those of the event: (objects,) bool."""
    pictures, found = _drawn(seed, event, size)
    every = np.arange(FRAMES, dtype=np.int64)
    flow, boxes, classes, numbers = [], [], [], []
    for now in range(FRAMES):
        index = np.clip([now - 1, now, now + 1], 0, FRAMES - 1)
        clip = Clip(pictures[index], index.astype(np.int64), index / FPS, now, now + 1)
        own = np.array([box for _, _, box in found[now]], np.float32).reshape(-1, 4)
        flow.append(box_flow(clip, 1, own, "dis", 1.0, span))
        boxes.append(own)
        for number, kind, _ in found[now]:
            sure = np.zeros(len(COCO), np.float32)
            sure[COCO.index(LABELS[kind])] = 0.9
            classes.append(sure)
            numbers.append(number)
    counts = np.array([len(each) for each in found], np.int32)
    start = np.repeat(every, counts)
    arrays = {
        "boxes": np.concatenate(boxes),
        "flow": np.concatenate(flow),
        "classes": np.stack(classes),
        "objectness": np.ones(len(start), np.float32),
    }
    tracks = {f"object/{name}": Track(values, start, start + 1) for name, values in arrays.items()}
    tracks["frame/objects"] = Track(counts, every, every + 1)
    sides = np.tile(np.array([HEIGHT, WIDTH], np.int32), (FRAMES, 1))
    tracks["frame/size"] = Track(sides, every, every + 1)
    bag = Bag(f"{event}-{seed}", None, FRAMES, float(FPS), tracks, "north")
    return bag, np.array(numbers) == (EVENT if event else 0)
