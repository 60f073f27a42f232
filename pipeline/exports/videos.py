"""What every format is written from: the videos of a score folder, each with its events."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...data_manifests.errors import VadpipeError
from ...data_manifests.plain_text import one_line
from ..scores.columns import SCORE, events_of, threshold_of, warnings_of
from ..scores.folder import ScoreFolder
from ..scores.part import file_inside

LABEL = "anomaly"  # of every event

_NOT_XML = re.compile("[\ufffe\uffff]")  # what XML cannot hold, beside control characters


class ExportError(VadpipeError, ValueError):
    """There is no such format, or videos lack what it needs."""


@dataclass(frozen=True)
class ScoredEvent:
    """One event.

    Attributes:
        event_id: as in the score folder.
        frame_start: first frame, counted from 0.
        frame_stop: one past the last.
        start_s: seconds from the start of the file.
        end_s: where the last frame ends.
        peak_frame: frame of the highest score.
        peak_s: its time.
        peak_score: the highest score.
        mean_score: mean over its frames.
        explain: why, in words of the detector; "" where it says nothing.
    """

    event_id: str
    frame_start: int
    frame_stop: int
    start_s: float
    end_s: float
    peak_frame: int
    peak_s: float
    peak_score: float
    mean_score: float
    explain: str

    @property
    def caption(self) -> str:
        """One line for people: the highest score, and why."""
        said = f"{LABEL}, score {self.peak_score:.3g}"
        return inert(f"{said}: {self.explain}" if self.explain else said)


@dataclass(frozen=True)
class VideoEvents:
    """One video and its events, in order of time.

    Attributes:
        video_id: as in the manifest; it is a file name.
        path: of the footage, as the score folder has it; "" where it has none.
        n_frames: of the whole file.
        fps: frames per second.
        width: of a frame in pixels; None where it is not known.
        height: of a frame in pixels; None where it is not known.
        events: may be empty.
    """

    video_id: str
    path: str
    n_frames: int
    fps: float
    width: int | None
    height: int | None
    events: Sequence[ScoredEvent]

    def file(self, suffix: str) -> str:
        """Name of a file of this video.

        Raises:
            ScoreFolderError: its id is no file name.
        """
        return file_inside(Path("out"), self.video_id, suffix).name

    def media(self, prefix: str | None) -> str:
        """Where a program finds the footage: its address, or its path without a prefix.

        Args:
            prefix:
                Address of the folder that serves the footage.
        """
        if prefix is None:
            return inert(self.path)
        name = Path(self.path).name or self.video_id
        return f"{prefix.rstrip('/')}/{quote(name, errors='surrogateescape')}"


def inert(text: str) -> str:
    """A name or sentence that no file format and no terminal can take for something else."""
    return _NOT_XML.sub(lambda found: ascii(found[0])[1:-1], one_line(text))


def read_videos(folder: ScoreFolder, column: str = SCORE) -> list[VideoEvents]:
    """Read all videos of a score folder and the events of one of its columns.

    Raises:
        ExportError: the column has no threshold, so no events.
        ScoreFolderError: a table is missing or damaged, or a video lacks the column.
        HeldOutError: the held-out rows are damaged.
    """
    videos = folder.videos()
    if column != SCORE:
        for video in videos:
            folder.scores(video["video_id"], column)  # is there such a column?
        if threshold_of(folder, column) is None:
            raise ExportError(
                f"column {column!r} has no events: {'; '.join(warnings_of(folder, column))}"
            )
    found: dict[str, list[ScoredEvent]] = {}
    for row in events_of(folder, column):
        found.setdefault(row["video_id"], []).append(_event(row))
    return [
        VideoEvents(
            video_id=video["video_id"],
            path=video["path"] or "",
            n_frames=video["n_frames"],
            fps=float(video["fps"]),
            width=video["width"] or None,
            height=video["height"] or None,
            events=sorted(found.get(video["video_id"], ()), key=lambda each: each.frame_start),
        )
        for video in videos
    ]


def _event(row: Mapping[str, Any]) -> ScoredEvent:
    return ScoredEvent(
        event_id=row["event_id"],
        frame_start=row["frame_start"],
        frame_stop=row["frame_stop"],
        start_s=float(row["start_s"]),
        end_s=float(row["end_s"]),
        peak_frame=row["peak_frame"],
        peak_s=float(row["peak_s"]),
        peak_score=float(row["peak_score"]),
        mean_score=float(row["mean_score"]),
        explain=str(row.get("explain") or ""),
    )
