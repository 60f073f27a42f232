"""Vectors of the objects at the peaks of events, from what a score folder has of them.

The boxes say what it is, how large, where, and how it moves (linked to the boxes of the frames
before and after); the columns of the detector say what is unusual about it. Features are not read,
so a cache is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...data_manifests.errors import VadpipeError
from ...detectors.object_links import CORNERS, linked
from ..scores.columns import SCORE
from ..scores.folder import ScoreFolder
from ..scores.part import ROW
from ..scores.regions import boxes_near
from ..scores.smoothing import RAW
from ..store.shard import UNREADABLE

Floats = NDArray[np.float64]
NEAR_SECONDS = 1.0  # boxes that are farther apart in time are not linked
FASTEST = 10.0  # box heights a second; what is faster counts as this fast
# What is compared, as the page says it; each weighs the same.
WORDS = {
    "kind": "what it is",
    "size": "how large it is",
    "place": "where it is",
    "motion": "how it moves",
    "evidence": "what is unusual about it",
}


def object_vectors(
    folder: ScoreFolder,
    videos: Mapping[str, Mapping[str, Any]],
    wanted: Sequence[Mapping[str, Any]],
) -> tuple[Floats, list[int], list[str], list[str]]:
    """Describe the highest box of each event, in the frame with boxes that is nearest to its peak.

    Args:
        folder:
            The score folder.
        videos:
            video_id -> its row of the table of videos.
        wanted:
            Events and moments.

    Returns:
        (n, D) of those that have a box: each group of numbers has the total variance 1. Which they
        are, and what is compared, in words. Groups in which all are equal are left out. Last, the
        videos whose boxes or scores cannot be read.
    """
    by_video: dict[str, list[int]] = {}
    for k, event in enumerate(wanted):
        by_video.setdefault(event["video_id"], []).append(k)
    found: dict[int, dict[str, Any]] = {}
    damaged: list[str] = []
    for video_id, own in by_video.items():
        try:
            table, part = folder.regions(video_id), folder.scores(video_id)
        except (VadpipeError, *UNREADABLE):  # a damaged file must not stop the page
            damaged.append(video_id)
            continue
        if table is None or not table.num_rows:
            continue
        for k in own:
            described = _described(table, part, videos[video_id], wanted[k])
            if described is not None:
                found[k] = described
    known = sorted(found)
    groups = _groups([found[k] for k in known])
    kept = {name: values for name, values in groups.items() if values.any()}
    vectors = np.concatenate([np.zeros((len(known), 0)), *kept.values()], axis=1)
    return vectors, known, [WORDS[name] for name in kept], damaged


def _described(
    table: pa.Table, part: pa.Table, video: Mapping[str, Any], event: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Numbers of an event, by group; None where it has no box."""
    span = event["peak_frame"], event["frame_start"], event["frame_stop"]
    frame, boxes = boxes_near(table, *span)
    if not boxes.num_rows:
        return None
    x0, y0, x1, y1 = _corners(boxes.slice(0, 1))[0].tolist()
    width = float(video["width"] or table["x1"].to_numpy().max())
    height = float(video["height"] or table["y1"].to_numpy().max())
    start = part["frame_start"].to_numpy()
    row = max(int(np.searchsorted(start, event["peak_frame"], side="right")) - 1, 0)
    names = [name for name in part.column_names if name not in (*ROW, SCORE, RAW)]
    evidence = np.array([float(part[name][row].as_py()) for name in names])
    return {
        "kind": boxes["label"][0].as_py() or "",
        "size": [np.log(max(x1 - x0, 1.0) / width), np.log(max(y1 - y0, 1.0) / height)],
        "place": [(x0 + x1) / 2 / width, y1 / height],
        "motion": _motion(table, frame, boxes.slice(0, 1), float(video["fps"])),
        "evidence": dict(zip(names, np.sign(evidence) * np.log1p(np.abs(evidence)), strict=True)),
    }


def _corners(boxes: pa.Table) -> Floats:
    return np.stack([boxes[name].to_numpy().astype(np.float64) for name in CORNERS], axis=1)


def _motion(table: pa.Table, frame: int, box: pa.Table, fps: float) -> list[float]:
    """Heights a second to the right and down, to the linked boxes of the frames around; or 0."""
    frames: NDArray[np.int64] = table["frame"].to_numpy()
    own = _corners(box)
    height = max(float(own[0, 3] - own[0, 1]), 1.0)
    first, last = np.searchsorted(frames, [frame, frame + 1])
    moves = []
    for at, sign in ((int(first) - 1, -1), (int(last), 1)):
        if not 0 <= at < len(frames):
            continue
        apart = abs(int(frames[at]) - frame) / fps
        if not 0 < apart <= NEAR_SECONDS:
            continue
        a, b = np.searchsorted(frames, [frames[at], frames[at] + 1])
        others = _corners(table.slice(int(a), int(b - a)))
        if (near := int(linked(own, others)[0])) >= 0:
            step = (others[near] - own[0]).reshape(2, 2).mean(axis=0)
            moves.append(sign * step / height / apart)
    if not moves:
        return [0.0, 0.0]
    mean = np.mean(moves, axis=0)
    mean *= FASTEST / max(float(np.linalg.norm(mean)), FASTEST)
    return [float(each) for each in mean]


def _groups(described: Sequence[Mapping[str, Any]]) -> dict[str, Floats]:
    """Each group as (n, d), centred, its columns alike and its total variance 1, or all zeros."""
    if not described:
        return {}
    kinds = sorted({each["kind"] for each in described})
    columns = sorted({name for each in described for name in each["evidence"]})
    raw = {name: np.array([each[name] for each in described]) for name in WORDS if name in _PAIRS}
    raw["kind"] = np.array([[float(each["kind"] == kind) for kind in kinds] for each in described])
    raw["evidence"] = np.array(
        [[each["evidence"].get(name, 0.0) for name in columns] for each in described]
    )
    return {name: _scaled(raw[name], alike=name != "kind") for name in WORDS}


_PAIRS = ("size", "place", "motion")


def _scaled(values: Floats, *, alike: bool) -> Floats:
    """Centred, with the total variance 1; `alike` gives each column the same share of it."""
    centred = values - values.mean(axis=0)
    if alike:
        spread = np.sqrt((centred**2).mean(axis=0))
        centred = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9)
    total = float(np.sqrt((centred**2).sum(axis=1).mean()))
    return centred / total if total > 1e-9 else np.zeros_like(centred)
