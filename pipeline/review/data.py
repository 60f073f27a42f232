"""What the review page knows: videos, curves, events and moments, as JSON values."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..report.curves import Times, decimate
from ..scores.events import EventConfig
from ..scores.frame_runs import FrameTimes
from ..scores.frames import expand_to_runs
from ..scores.part import ROW

SPARK = 48  # values of a sparkline
PART_POINTS = 1200  # most points of the curve of another column
MOST_PARTS = 8  # other columns of a video
EXPLAINED = 400  # characters of an explanation


@dataclass(frozen=True)
class VideoCurve:
    """The score of one video, frame by frame, as runs of equal frames.

    Attributes:
        first: the first frame.
        lengths: (k,) frames of each run.
        values: (k,) the score of each run.
        parts: other score columns, each at most `PART_POINTS` points: name -> frames and values.
    """

    first: int
    lengths: NDArray[np.int64]
    values: NDArray[np.float64]
    parts: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]

    @classmethod
    def of(cls, part: pa.Table, column: str) -> VideoCurve:
        """The curve of a part (see `ScoreFolder.scores`).

        Raises:
            MetricsError: the rows are no windows of frames with finite scores.
        """
        windows = part["frame_start"].to_numpy(), part["frame_stop"].to_numpy()
        first, lengths, values = expand_to_runs(*windows, part[column].to_numpy())
        others = [name for name in part.column_names if name not in (*ROW, column)]
        finite = [name for name in others if np.isfinite(part[name].to_numpy()).all()]
        parts = {}
        for name in finite[:MOST_PARTS]:
            _, sizes, scores = expand_to_runs(*windows, part[name].to_numpy())
            index, points = decimate(scores, PART_POINTS)
            parts[name] = (first + (np.cumsum(sizes) - sizes)[index], points)
        return cls(first, lengths, values, parts)

    @property
    def highest(self) -> float:
        """The highest score."""
        return float(self.values.max())

    @property
    def lowest(self) -> float:
        """The lowest score."""
        return float(self.values.min())

    def spark(self) -> NDArray[np.float64]:
        """The highest score of each of `SPARK` equal stretches of the video: (SPARK,)."""
        ends = np.cumsum(self.lengths)
        edges = np.linspace(0, ends[-1], SPARK + 1)
        first = np.searchsorted(ends, edges[:-1], side="right")
        last = np.maximum(np.searchsorted(ends, edges[1:], side="left"), first)
        return np.array(
            [self.values[a : b + 1].max() for a, b in zip(first, last, strict=True)], np.float64
        )


def video_values(
    video: Mapping[str, Any],
    curve: VideoCurve,
    config: EventConfig,
    *,
    events: int,
    link: str | None,
    unlinked: str,
    scene: str | None,
    truth: Times | None,
    auc: float | None,
) -> dict[str, Any]:
    """One video of the page, without its curve.

    Args:
        video:
            Its row of the table of videos.
        curve:
            Its score.
        config:
            How scores become events.
        events:
            How many the score folder has.
        link:
            Where its file is, relative to the page; None where it cannot be linked.
        unlinked:
            Why it is not, see `why_unlinked`.
        scene:
            The camera or place; None where it is not known.
        truth:
            Labelled anomalies; None where it has no labels.
        auc:
            As `evaluate` has measured it.
    """
    seconds = config.merge_seconds, config.min_seconds, config.pad_seconds
    times = FrameTimes.of(*seconds, video["fps"])
    return {
        "id": video["video_id"],
        "content": video["content_id"],
        "path": video["path"] or "",
        "link": link,
        "unlinked": unlinked,
        "scene": scene,
        "trained": video.get("scene_trained"),
        "fps": video["fps"],
        "frames": video["n_frames"],
        "start": video["frame_start"],
        "stop": video["frame_stop"],
        "flags": list(video["flags"] or ()),
        "peak": curve.highest,
        "parts": list(curve.parts),
        "events": events,
        "truth": None if truth is None else [list(span) for span in truth],
        "auc": auc,
        "lengths": [times.gap, times.shortest, times.pad],
    }


def link_to(path: str, page: Path) -> str | None:
    """The address of a video relative to the page, where both lie in one folder below the root.

    The page and the footage can then be moved together. It begins with "./" or "../", so whatever
    the name of the file, it is no address of something else.

    Args:
        path:
            Of the footage; "" where there is none.
        page:
            Folder of the page.
    """
    if not path:
        return None
    target, base = Path(path).absolute(), page.absolute()
    if not target.is_file() or os.path.commonpath([target, base]) == target.anchor:
        return None
    relative = Path(os.path.relpath(target, base)).as_posix()
    return quote(
        relative if relative.startswith("../") else f"./{relative}", errors="surrogateescape"
    )


def why_unlinked(path: str, kind: str | None, link: str | None) -> str:
    """Why a page does not link a video; "" where it does.

    Args:
        path:
            Of the footage; "" where there is none.
        kind:
            Of the footage: "images" is a folder of pictures.
        link:
            See `link_to`.

    Returns:
        "none": features without footage. "images": a folder of pictures, which no browser plays.
        "gone": it is not there. "apart": it lies in no folder with the page below the root.
    """
    if not path:
        return "none"
    if kind == "images":
        return "images"
    if link is not None:
        return ""
    if Path(path).is_dir():
        return "images"
    return "apart" if Path(path).is_file() else "gone"


def event_values(
    rows: Sequence[Mapping[str, Any]], numbers: Mapping[str, int], *, moments: bool
) -> dict[str, Any]:
    """Events, or moments that are none, column by column.

    Args:
        rows:
            With the columns of `EVENT_SCHEMA`, and maybe `explain` and `words`.
        numbers:
            video_id -> its number in the page.
        moments:
            They are no events.
    """

    def texts(name: str) -> dict[str, str]:
        found = ((k, str(row.get(name) or "")) for k, row in enumerate(rows))
        return {str(k): text[:EXPLAINED] for k, text in found if text}

    return {
        "moments": moments,
        "id": [row["event_id"] for row in rows],
        "video": [numbers[row["video_id"]] for row in rows],
        "start": [row["frame_start"] for row in rows],
        "stop": [row["frame_stop"] for row in rows],
        "at": [row["peak_frame"] for row in rows],
        "peak": [row["peak_score"] for row in rows],
        "mean": [row["mean_score"] for row in rows],
        "explain": texts("explain"),
        "words": texts("words"),
    }


def counts_of(rows: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """video_id -> how many events it has."""
    return Counter(row["video_id"] for row in rows)
