"""What every format is written from: the videos of a score folder, each with its events."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...data_manifests.errors import VadpipeError
from ...data_manifests.plain_text import one_line
from ..scores.columns import SCORE, events_of, threshold_of, warnings_of
from ..scores.events import Event
from ..scores.folder import ScoreFolder
from ..scores.part import file_inside
from ..scores.plain_words import add_reasons, general_words

LABEL = "anomaly"  # of every event

_NOT_XML = re.compile("[\ufffe\uffff]")  # what XML cannot hold, beside control characters


class ExportError(VadpipeError, ValueError):
    """There is no such format, or videos lack what it needs."""


@dataclass(frozen=True)
class ScoredEvent(Event):
    """An event as it stands in a score folder.

    Attributes:
        event_id: as in the score folder.
        explain: why, with the numbers of the detector; "" where it says nothing.
        words: why, in words of a guard.
    """

    event_id: str
    explain: str
    words: str

    @property
    def caption(self) -> str:
        """One line for researchers: the highest score, and why."""
        said = f"{LABEL}, score {self.peak_score:.3g}"
        return inert(f"{said}: {self.explain}" if self.explain else said)

    @property
    def sentence(self) -> str:
        """One line for a guard: why, without numbers."""
        return inert(self.words[:1].upper() + self.words[1:])


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
        scene: the camera; None where it is not known.
        scene_trained: whether the model was trained on it; None where that is not known.
        events: may be empty.
    """

    video_id: str
    path: str
    n_frames: int
    fps: float
    width: int | None
    height: int | None
    scene: str | None
    scene_trained: bool | None
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
        RegionError: the boxes of a video are damaged.
        HeldOutError: the held-out rows are damaged.
    """
    videos = folder.videos()
    if column != SCORE and threshold_of(folder, column) is None:
        for video in videos:
            folder.scores(video["video_id"], column)  # a column that is not there is another error
        raise ExportError(
            f"column {column!r} has no events: {'; '.join(warnings_of(folder, column))}"
        )
    rows, general = events_of(folder, column), general_words(folder.run())
    for error in add_reasons(folder, rows).values():
        raise error
    found: dict[str, list[ScoredEvent]] = {}
    for row in rows:
        found.setdefault(row["video_id"], []).append(_event(row, general))
    return [
        VideoEvents(
            video_id=video["video_id"],
            path=video["path"] or "",
            n_frames=video["n_frames"],
            fps=float(video["fps"]),
            width=video["width"] or None,
            height=video["height"] or None,
            scene=video.get("scene"),
            scene_trained=video.get("scene_trained"),
            events=sorted(found.get(video["video_id"], ()), key=lambda each: each.frame_start),
        )
        for video in videos
    ]


def _event(row: Mapping[str, Any], general: str) -> ScoredEvent:
    values = {each.name: row[each.name] for each in fields(Event)}
    explain, words = str(row.get("explain") or ""), str(row.get("words") or general)
    return ScoredEvent(**values, event_id=row["event_id"], explain=explain, words=words)
