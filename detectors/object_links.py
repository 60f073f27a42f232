"""Boxes of one object in rows that follow one another: how long it stays, and where it is between.

No tracker is needed: boxes of neighbouring rows are linked one to one by their overlap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .object_maps import Objects

Floats = NDArray[np.float64]

STAY_OVERLAP = 0.5  # an object stays while it overlaps its first box there by at least this
LINK_OVERLAP = 0.2  # boxes of one object in rows that follow one another overlap by at least this
STAY_GAP = 1.0  # seconds that it may be missed for
CORNERS = ("x0", "y0", "x1", "y1")


def stays(objects: Objects, fps: float) -> Floats:
    """Seconds for which each object has been where it is: (n,).

    Boxes of the next row go on with the box that they overlap most, one to one; an object may be
    missed for a second. It stays while its box overlaps the one that it had at first by half
    (intersection over union); one that has left its first box starts again.
    """
    seconds = np.zeros(len(objects))
    first, last = np.zeros((0, 4)), np.zeros((0, 4))  # boxes of what was seen lately
    since, seen = np.zeros(0), np.zeros(0)  # times of these boxes
    for row in np.unique(objects.row).tolist():
        here = np.arange(*np.searchsorted(objects.row, [row, row + 1]))
        now, boxes = objects.frame_start[row] / fps, objects.boxes[here]
        recent = now - seen <= STAY_GAP + 1e-9
        first, last, since, seen = first[recent], last[recent], since[recent], seen[recent]
        before = linked(boxes, last)  # number of what each box goes on with, or -1
        begun, start = boxes.copy(), np.full(len(boxes), now)
        known = np.flatnonzero(before >= 0)
        own = np.diagonal(overlaps(boxes[known], first[before[known]]))
        known = known[own >= STAY_OVERLAP]
        begun[known], start[known] = first[before[known]], since[before[known]]
        seconds[here] = now - start
        lost = np.ones(len(last), bool)  # what is remembered and not here
        lost[before[before >= 0]] = False
        first, last = np.concatenate([first[lost], begun]), np.concatenate([last[lost], boxes])
        since = np.concatenate([since[lost], start])
        seen = np.concatenate([seen[lost], np.full(len(boxes), now)])
    return seconds


def linked(boxes: Floats, last: Floats) -> NDArray[np.int64]:
    """The box of `last` that each box overlaps most, one to one, or -1: (n,)."""
    found = np.full(len(boxes), -1, np.int64)
    taken = np.zeros(len(last), bool)
    overlap = overlaps(boxes, last)
    mines, others = np.nonzero(overlap >= LINK_OVERLAP)  # few of all pairs
    order = np.argsort(-overlap[mines, others], kind="stable")
    for mine, other in zip(mines[order].tolist(), others[order].tolist(), strict=True):
        if found[mine] < 0 and not taken[other]:
            found[mine], taken[other] = other, True
    return found


def overlaps(a: Floats, b: Floats) -> Floats:
    """Intersection over union of all pairs: (n, 4), (m, 4) -> (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(high - low, 0.0)
    both = sides[..., 0] * sides[..., 1]
    areas = [(x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b)]
    whole = areas[0][:, None] + areas[1] - both
    return np.asarray(both / np.maximum(whole, np.finfo(np.float64).tiny))


def fill_between(regions: pa.Table, frame_start: NDArray[np.int64], n_frames: int) -> pa.Table:
    """Add boxes in the frames between rows, for features that look at every k-th frame only.

    Linked boxes move in a straight line from row to row, and their numbers with them; text is that
    of the nearer row. A box without a link stays for half of the way, and those of the last row
    stay to the end of the video, but not longer than to where the next row would be. Where rows
    lie farther apart than usual, frames were skipped, and nothing is added.

    Args:
        regions:
            Columns frame, x0, y0, x1, y1 and others; each frame is one of `frame_start`.
        frame_start:
            (rows,) frames that were looked at, rising.
        n_frames:
            Frames of the video.

    Returns:
        The same columns, sorted by frame. The same table if every frame was looked at.
    """
    step = int(np.median(np.diff(frame_start))) if len(frame_start) > 1 else 1
    if step == 1 or not regions.num_rows:
        return regions
    regions = regions.take(np.argsort(regions["frame"].to_numpy(), kind="stable"))
    frames = regions["frame"].to_numpy()
    boxes = np.stack([regions[side].to_numpy().astype(np.float64) for side in CORNERS], axis=1)
    edges = np.searchsorted(frames, np.append(frame_start, n_frames + step))
    added = []  # (frame, box before, box after, share of the way)
    for row, now in enumerate(frame_start.tolist()):
        here = np.arange(edges[row], edges[row + 1])
        last = row + 1 == len(frame_start)
        then = min(now + step, n_frames) if last else int(frame_start[row + 1])
        if then - now > step:
            continue
        there = here[:0] if last else np.arange(edges[row + 1], edges[row + 2])
        back = linked(boxes[there], boxes[here])  # number of the box here of each box there
        pairs = here[back[back >= 0]], there[back >= 0]
        alone, new = np.setdiff1d(here, pairs[0]), there[back < 0]
        for frame in range(now + 1, then):
            share = (frame - now) / (then - now)
            added.append((frame, *pairs, share))
            if last or share <= 0.5:
                added.append((frame, alone, alone, 0.0))
            if share > 0.5:
                added.append((frame, new, new, 1.0))
    if not added:
        return regions
    before, after = (np.concatenate([each[i] for each in added]) for i in (1, 2))
    many = [len(each[1]) for each in added]
    share = np.repeat([each[3] for each in added], many)
    columns: dict[str, Any] = {}
    for name in regions.column_names:
        column = regions[name].combine_chunks()
        if name != "frame" and pa.types.is_floating(column.type):
            values = column.to_numpy()
            mixed = values[before] * (1 - share) + values[after] * share
            columns[name] = pa.array(mixed.astype(values.dtype))
        else:
            columns[name] = column.take(np.where(share <= 0.5, before, after))
    columns["frame"] = np.repeat([each[0] for each in added], many).astype(np.int64)
    whole = pa.concat_tables([regions, pa.table(columns).select(regions.column_names)])
    return whole.take(np.argsort(whole["frame"].to_numpy(), kind="stable"))
