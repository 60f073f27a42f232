"""Events against labelled anomalies: how many are right, found, and how late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..scores.columns import events_of
from ..scores.folder import ScoreFolder, ScoreFolderError
from .results import EventMetrics

Interval = tuple[int, int]  # first frame, one past the last
OVERLAP = 0.5  # temporal intersection over union of the strict count


@dataclass(frozen=True)
class LabelledEvents:
    """The events of one video, and what is labelled there.

    Attributes:
        events: of the detector; none shares a frame with another.
        anomalies: labelled; none shares a frame with another.
        n_frames: frames that were measured.
        fps: frames a second.
    """

    events: Sequence[Interval]
    anomalies: Sequence[Interval]
    n_frames: int
    fps: float


def events_against(
    folder: ScoreFolder,
    column: str,
    videos: Sequence[Mapping[str, Any]],
    labels: Sequence[tuple[Sequence[Interval], Interval]],
) -> tuple[EventMetrics | None, str | None]:
    """Compare the events of a column with labelled anomalies.

    Args:
        folder:
            Score folder.
        column:
            Its score column.
        videos:
            Rows of its table of videos.
        labels:
            The anomalies of each, and the frames that are measured.

    Returns:
        The metrics, or None and why there are none.
    """
    by_video: dict[str, list[dict[str, Any]]] = {}
    try:
        for event in events_of(folder, column):
            by_video.setdefault(event["video_id"], []).append(event)
    except ScoreFolderError as error:  # frames can be measured without them
        return None, str(error)
    return event_metrics(
        [
            labelled_events(by_video.get(row["video_id"], []), anomalies, part, row["fps"])
            for row, (anomalies, part) in zip(videos, labels, strict=True)
        ]
    ), None


def labelled_events(
    events: Sequence[Mapping[str, Any]], anomalies: Sequence[Interval], part: Interval, fps: float
) -> LabelledEvents:
    """Cut the events and the anomalies of a video to the part that was measured.

    Args:
        events:
            Its rows of `events.parquet`.
        anomalies:
            Labelled; frames of the whole file. Those that touch are one.
        part:
            Frames that were measured.
        fps:
            Frames a second.
    """
    found = _joined([(event["frame_start"], event["frame_stop"]) for event in events])
    return LabelledEvents(_cut(found, part), _cut(_joined(anomalies), part), part[1] - part[0], fps)


def event_metrics(videos: Sequence[LabelledEvents]) -> EventMetrics:
    """Compare events with anomalies.

    An event is right, and an anomaly found, if they share a frame. The strict count pairs them one
    to one, and wants an intersection over union of `OVERLAP`.

    Args:
        videos:
            At least one.
    """
    n_right = n_found = n_paired = 0
    delays: list[float] = []
    for video in videos:
        meets = np.array(
            [[_shared(e, a) > 0 for a in video.anomalies] for e in video.events], bool
        ).reshape(len(video.events), len(video.anomalies))
        n_right += int(meets.any(axis=1).sum())
        n_found += int(meets.any(axis=0).sum())
        n_paired += _pairs(video.events, video.anomalies)
        for j, (start, _) in enumerate(video.anomalies):
            first = [video.events[int(i)][0] for i in np.flatnonzero(meets[:, j])]
            delays += [max(min(first) - start, 0) / video.fps] if first else []
    n_events = sum(len(video.events) for video in videos)
    n_anomalies = sum(len(video.anomalies) for video in videos)
    hours = sum(video.n_frames / video.fps for video in videos) / 3600
    return EventMetrics(
        n_events=n_events,
        n_right=n_right,
        n_anomalies=n_anomalies,
        n_found=n_found,
        precision=n_right / n_events if n_events else None,
        recall=n_found / n_anomalies if n_anomalies else None,
        overlap=OVERLAP,
        n_paired=n_paired,
        strict_f1=2 * n_paired / (n_events + n_anomalies) if n_events + n_anomalies else None,
        hours=hours,
        false_per_hour=(n_events - n_right) / hours,
        median_delay=float(np.median(delays)) if delays else None,
    )


def _joined(intervals: Sequence[Interval]) -> list[Interval]:
    """Sorted, and those that overlap or touch as one."""
    found: list[Interval] = []
    for start, stop in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


def _cut(intervals: Sequence[Interval], part: Interval) -> list[Interval]:
    cut = [(max(start, part[0]), min(stop, part[1])) for start, stop in intervals]
    return [(start, stop) for start, stop in cut if start < stop]


def _shared(one: Interval, other: Interval) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))


def _pairs(events: Sequence[Interval], anomalies: Sequence[Interval]) -> int:
    """How many pairs overlap by `OVERLAP`, each event and each anomaly in one of them at most.

    Where neither share frames among themselves, an interval has two partners only if each is
    exactly one half of it: either will do.
    """
    free, count = list(anomalies), 0
    for event in events:
        for anomaly in free:
            shared = _shared(event, anomaly)
            union = event[1] - event[0] + anomaly[1] - anomaly[0] - shared
            if shared >= OVERLAP * union:
                free.remove(anomaly)
                count += 1
                break
    return count
