"""The most unusual moments of a score folder, above the threshold or below it.

A threshold may let nothing through. What is highest is then still worth a look, so each video has
moments: local maxima of its frame scores, with borders like those of an event.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .columns import config_of
from .events import Event, EventError, event_between, frames_of
from .folder import ScoreFolder
from .frames import expand_to_frames

MOST_OF_VIDEO = 3
Spans = Sequence[tuple[int, int]]


def find_moments(
    frame_start: ArrayLike,
    frame_stop: ArrayLike,
    score: ArrayLike,
    fps: float,
    *,
    apart_seconds: float = 1.0,
    outside: Spans = (),
    most: int = MOST_OF_VIDEO,
) -> list[Event]:
    """The highest local maxima of one video, each with borders.

    A peak is a run of equal frames that is higher than the frames on both of its sides. Around it,
    the moment goes on while frames stay above the level in the middle between the peak and the
    median of the video: the hysteresis of events, with a level that every peak has. Moments do not
    touch, and are more than `apart_seconds` from each other and from `outside`.

    Args:
        frame_start:
            (n,) first frame of each row, in frames of the whole file.
        frame_stop:
            (n,) one past the last.
        score:
            (n,) raw score.
        fps:
            Frames per second.
        apart_seconds:
            As `EventConfig.merge_seconds`: what is closer belongs together.
        outside:
            Half-open frame ranges that moments have to stay away from: the events.
        most:
            How many moments at most.

    Returns:
        Highest peak first; of equal ones the first in time. None where all frames are equal.

    Raises:
        EventError: fps is not positive, or there is no row.
        MetricsError: the rows are no windows of frames with finite scores.
    """
    if not np.size(score):
        raise EventError("a video without score rows has no moments to look for")
    first, stop = int(np.min(frame_start)), int(np.max(frame_stop))
    frames = expand_to_frames(frame_start, frame_stop, score, first, stop)  # (stop - first,)
    gap = frames_of(apart_seconds, fps)
    usual = float(np.median(frames))
    free = np.ones(len(frames), dtype=bool)
    for a, b in outside:
        free[max(a - first - gap, 0) : max(b - first + gap, 0)] = False
    found: list[Event] = []
    for at in _peaks(frames):
        if len(found) >= most or frames[at] <= usual:
            break
        if free[at]:
            level = usual + (frames[at] - usual) / 2
            a, b = _around(free & (frames > level), at)
            free[max(a - gap, 0) : b + gap] = False
            found.append(event_between(frames, a, b, first, fps))
    return found


def top_moments(
    folder: ScoreFolder,
    column: str,
    events: Sequence[Mapping[str, Any]],
    *,
    most: int,
    most_of_video: int = MOST_OF_VIDEO,
) -> list[dict[str, Any]]:
    """The most unusual moments of all videos that are no events.

    Args:
        folder:
            The score folder.
        column:
            The score column.
        events:
            Its events, see `events_of`.
        most:
            How many moments at most.
        most_of_video:
            How many of one video.

    Returns:
        Rows with the columns of `EVENT_SCHEMA`, highest peak first. Ids are the video id and a
        number from 1, as `01-m1`.

    Raises:
        ScoreFolderError: a table is missing or damaged, or a video has no such column.
    """
    config = config_of(folder)
    taken: dict[str, list[tuple[int, int]]] = {}
    for event in events:
        taken.setdefault(event["video_id"], []).append((event["frame_start"], event["frame_stop"]))
    best: list[tuple[tuple[float, int, int], dict[str, Any]]] = []  # a heap, the lowest on top
    for number, video in enumerate(folder.videos()):
        video_id = video["video_id"]
        part = folder.scores(video_id, column)
        moments = find_moments(
            part["frame_start"].to_numpy(),
            part["frame_stop"].to_numpy(),
            part[column].to_numpy(),
            video["fps"],
            apart_seconds=config.merge_seconds,
            outside=taken.get(video_id, ()),
            most=most_of_video,
        )
        for k, moment in enumerate(moments, start=1):
            row = {"video_id": video_id, "event_id": f"{video_id}-m{k}", **asdict(moment)}
            order = (moment.peak_score, -number, -k)
            if len(best) < most:
                heapq.heappush(best, (order, row))
            elif best and order > best[0][0]:
                heapq.heapreplace(best, (order, row))
    return [row for _, row in sorted(best, key=lambda each: each[0], reverse=True)]


def _peaks(frames: NDArray[np.float64]) -> list[int]:
    """First frame of each run of equal frames that is a local maximum, highest first."""
    starts = np.flatnonzero(np.diff(frames, prepend=np.nan) != 0)  # nan differs from all
    values = np.concatenate([[-np.inf], frames[starts], [-np.inf]])
    tops = starts[(values[1:-1] > values[:-2]) & (values[1:-1] > values[2:])]
    return [int(at) for at in tops[np.argsort(-frames[tops], kind="stable")]]


def _around(inside: NDArray[np.bool_], at: int) -> tuple[int, int]:
    """The run of true values around one of them, half-open."""
    left = np.flatnonzero(~inside[:at])
    right = np.flatnonzero(~inside[at:])
    a = int(left[-1]) + 1 if len(left) else 0
    return a, at + int(right[0]) if len(right) else len(inside)
