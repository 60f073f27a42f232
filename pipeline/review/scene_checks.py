"""Checks of the camera on the review page: events of `tampering`, each with its reason in words.

They stand beside the events of the detector that the page is about, and are no part of its ranking,
its threshold or its verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...data_manifests.errors import VadpipeError
from ..report.curves import decimate
from ..scores.columns import SCORE, events_of, own_levels_of
from ..scores.folder import ScoreFolder, ScoreFolderError
from ..scores.frames import expand_to_runs
from .data import PART_POINTS, VideoCurve, event_values

DETECTOR = "tampering"
COLUMN = "scene checks"  # name of its curve, beside those of the detector's own columns
MOST = 2_000  # events on the page, highest peaks first
# In this order one check explains others: a covered lens has no edges and so looks moved, a blurred
# one differs at every border, and a picture that stands keeps whoever is in it.
REASONS: Mapping[str, str] = {
    "covered": "the camera was covered",
    "dark": "the picture was dark",
    "blurred": "the picture was blurred",
    "moved": "the camera was moved",
    "frozen": "the picture stood still",
    "left": "something was left behind or taken away",
}


@dataclass(frozen=True)
class SceneChecks:
    """The checks of the videos of a page.

    Attributes:
        folder: their scores.
        rows: their table of videos, those that the page has too.
        events: highest peak first, each with `reason` and `explain`.
        notes: what the page should say of them.
    """

    folder: ScoreFolder
    rows: list[dict[str, Any]]
    events: list[dict[str, Any]]
    notes: list[str]

    def with_curve(self, curve: VideoCurve, video_id: str) -> VideoCurve:
        """The curve of a video, with its checks as another column where it was checked."""
        if all(row["video_id"] != video_id for row in self.rows):
            return curve
        part = self.folder.scores(video_id)
        windows = part["frame_start"].to_numpy(), part["frame_stop"].to_numpy()
        first, lengths, values = expand_to_runs(*windows, part[SCORE].to_numpy())
        index, points = decimate(values, PART_POINTS)
        frames = first + (np.cumsum(lengths) - lengths)[index]
        parts = {**curve.parts, COLUMN: (frames, points)}
        return VideoCurve(curve.first, curve.lengths, curve.values, parts)

    def values(self, numbers: Mapping[str, int]) -> dict[str, Any]:
        """What the page knows of the events, column by column; `numbers` is video_id -> number."""
        return {
            **event_values(self.events, numbers, moments=False),
            "reason": [event["reason"] for event in self.events],
        }


def scene_checks_of(path: Path, videos: Sequence[Mapping[str, Any]]) -> SceneChecks:
    """Read the checks of the videos of a page.

    Args:
        path:
            Score folder of `tampering`.
        videos:
            The table of videos of the page. A video whose content is another one there has no
            checks.

    Raises:
        ScoreFolderError: the folder is incomplete or damaged, or holds scores of another detector.
    """
    folder = ScoreFolder(path)
    detector = (folder.run().get("model") or {}).get("detector")
    if detector != DETECTOR:
        raise ScoreFolderError(
            f"{path} holds scores of {detector!r}: scene checks are those of {DETECTOR!r}"
        )
    contents = {row["video_id"]: row["content_id"] for row in videos}
    rows = [r for r in folder.videos() if contents.get(r["video_id"]) == r["content_id"]]
    ids = {row["video_id"] for row in rows}
    events = [event for event in events_of(folder, SCORE) if event["video_id"] in ids]
    events.sort(key=lambda e: (-e["peak_score"], e["video_id"], e["frame_start"]))
    notes = []
    if len(events) > MOST:
        notes.append(f"Scene checks: the {MOST:,} highest of {len(events):,} events are shown.")
    if missing := [name for name in contents if name not in ids]:
        notes.append(
            f"Scene checks: {len(missing):,} of {len(contents):,} videos were not checked, as "
            f"{missing[0]}{_why(folder, missing[0])}."
        )
    own, high = own_levels_of(folder, SCORE), folder.threshold()
    parts: dict[str, pa.Table] = {}
    for event in events[:MOST]:
        video_id = event["video_id"]
        if video_id not in parts:
            parts = {video_id: folder.scores(video_id)}  # the last one: memory does not grow
        level = own[video_id][0] if video_id in own else high
        event.update(_reason(parts[video_id], event["peak_frame"], 1.0 if level is None else level))
    return SceneChecks(folder, rows, events[:MOST], notes)


def _reason(part: pa.Table, frame: int, level: float) -> dict[str, str]:
    """Which check an event is of, at its peak: the first of `REASONS` that is above the level.

    Raises:
        ScoreFolderError: the scores have no columns of checks.
    """
    if missing := [name for name in REASONS if name not in part.column_names]:
        raise ScoreFolderError(f"scores of {DETECTOR} lack the column {missing[0]}: score again")
    start, stop = part["frame_start"].to_numpy(), part["frame_stop"].to_numpy()
    score = part[SCORE].to_numpy()
    inside = np.flatnonzero((start <= frame) & (frame < stop))
    # Between rows a frame has the score of the nearest one.
    row = inside[np.argmax(score[inside])] if len(inside) else np.argmin(np.abs(start - frame))
    values = {name: float(part[name][int(row)].as_py()) for name in REASONS}
    above = [name for name, value in values.items() if value > level]
    above = above or [max(values, key=lambda name: values[name])]
    others = ", ".join(REASONS[name] for name in above[1:])
    return {
        "reason": REASONS[above[0]],
        "explain": f"Other checks say: {others}." if others else "",
    }


def _why(folder: ScoreFolder, video_id: str) -> str:
    """Why a video has no checks, as far as it is known."""
    try:
        found = [row for row in folder.failures() if row["video_id"] == video_id]
    except VadpipeError:
        return ""
    return f" ({found[0]['message']})" if found else ""
