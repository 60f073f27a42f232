"""Bags whose objects lie where few do: over the border, outside, without pixels, in crowds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from vadpipe.detectors.base import Bag, Track

CROWD = 520  # more than `objects` keeps of a frame


def edges(height: int, width: int) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Boxes with pixels, over the border and outside of it; and boxes without any."""
    there = [
        (-8.0, -6.0, 12.0, 20.0),
        (width - 5.0, height - 5.0, width + 30.0, height + 30.0),
        (width + 40.0, height + 40.0, width + 60.0, height + 60.0),
    ]
    return there, [(30.0, 30.0, 30.0, 50.0), (30.0, 30.0, 50.0, 30.0)]


def crowd(height: int, width: int) -> list[tuple[float, ...]]:
    """`CROWD` boxes within a frame."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 0.7, (CROWD, 2)) * (width, height)
    boxes = np.concatenate([corners, corners + rng.uniform(2, 0.3 * height, (CROWD, 2))], axis=1)
    return [tuple(box) for box in np.minimum(boxes, (width, height) * 2).tolist()]


def with_boxes(bag: Bag, frame: int, boxes: Iterable[tuple[float, ...]]) -> Bag:
    """Add boxes to a frame; whatever else is known of them is that of the first object."""
    more = np.array(list(boxes), np.float32)
    tracks = dict(bag.tracks)
    for role, track in bag.tracks.items():
        if not role.startswith("object/"):
            continue
        rows = more if role == "object/boxes" else np.repeat(track.rows(0, 1), len(more), axis=0)
        at = int(np.searchsorted(track.frame_start, frame, side="right"))
        start = np.insert(track.frame_start, at, np.full(len(more), frame))
        values = np.concatenate([track.rows(0, at), rows, track.rows()[at:]])
        tracks[role] = Track(values, start, start + 1)
    counts = bag.tracks["frame/objects"]
    changed = counts.rows().copy()
    changed[counts.frame_start == frame] += len(more)
    tracks["frame/objects"] = replace(counts, array=changed)
    return replace(bag, tracks=tracks)


def first_frames(bag: Bag, count: int) -> Bag:
    """The beginning of a video, as if that were all of it."""
    tracks = {}
    for role, track in bag.tracks.items():
        stop = int(np.searchsorted(track.frame_start, count))
        tracks[role] = Track(track.rows(0, stop), track.frame_start[:stop], track.frame_stop[:stop])
    return replace(bag, tracks=tracks, n_frames=count)
