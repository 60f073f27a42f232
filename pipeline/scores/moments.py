"""The most unusual moments of a score folder, above the threshold or below it.

A threshold may let nothing through. What is highest is then still worth a look, so each video has
moments: local maxima of its frame scores, with borders like those of an event.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .columns import config_of
from .events import Event, EventError, frames_of
from .folder import ScoreFolder
from .frames import expand_to_runs
from .video_tables import camera_of

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
    gap = frames_of(apart_seconds, fps)
    first, lengths, values = expand_to_runs(frame_start, frame_stop, score)
    starts = np.concatenate([[0], np.cumsum(lengths)])  # of runs, and the end
    usual = _median(lengths, values)
    taken = [(a - first - gap, b - first + gap) for a, b in outside]
    found: list[Event] = []
    for run in _outside(_peaks(values), starts, taken):
        if len(found) >= most or values[run] <= usual:
            break
        at = int(starts[run])
        if any(a <= at < b for a, b in taken[len(outside) :]):
            continue
        inside = values > usual + (values[run] - usual) / 2
        a = max([int(starts[_first_of(inside, run)]), *(b for _, b in taken if b <= at)])
        b = min([int(starts[_stop_of(inside, run)]), *(a for a, _ in taken if a > at)])
        taken.append((a - gap, b + gap))
        found.append(_moment(starts, values, run, (a, b), first, fps))
    return found


def _outside(
    runs: NDArray[np.int64], starts: NDArray[np.int64], taken: Sequence[tuple[int, int]]
) -> Iterator[int]:
    """Yield the runs that begin in none of some spans, in their order."""
    if not taken:
        yield from runs.tolist()
        return
    begins, ends = np.array(sorted(taken), np.int64).T
    last = np.searchsorted(begins, starts[runs], side="right") - 1
    inside = (last >= 0) & (starts[runs] < np.maximum.accumulate(ends)[last])
    yield from runs[~inside].tolist()


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
        Rows with the columns of `EVENT_SCHEMA`, `scene` and `scene_trained`, highest peak first.
        Ids are the video id and a number from 1, as `01-m1`.

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
            row |= camera_of(video)
            order = (moment.peak_score, -number, -k)
            if len(best) < most:
                heapq.heappush(best, (order, row))
            elif best and order > best[0][0]:
                heapq.heapreplace(best, (order, row))
    return [row for _, row in sorted(best, key=lambda each: each[0], reverse=True)]


def _median(lengths: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """The median of the frames of all runs."""
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(lengths[order])
    middle = [(ends[-1] - 1) // 2, ends[-1] // 2]
    low, high = values[order][np.searchsorted(ends, middle, side="right")]
    return float(low + (high - low) / 2)


def _peaks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The runs that are local maxima, highest first; neighbouring runs differ."""
    ends = np.concatenate([[-np.inf], values, [-np.inf]])
    tops = np.flatnonzero((values > ends[:-2]) & (values > ends[2:]))
    found: NDArray[np.int64] = tops[np.argsort(-values[tops], kind="stable")]
    return found


def _first_of(inside: NDArray[np.bool_], run: int) -> int:
    """The first run of the stretch of true values around one of them."""
    left = np.flatnonzero(~inside[:run])
    return int(left[-1]) + 1 if len(left) else 0


def _stop_of(inside: NDArray[np.bool_], run: int) -> int:
    """One past the last run of that stretch."""
    right = np.flatnonzero(~inside[run:])
    return run + int(right[0]) if len(right) else len(inside)


def _moment(
    starts: NDArray[np.int64],
    values: NDArray[np.float64],
    run: int,
    span: tuple[int, int],
    first: int,
    fps: float,
) -> Event:
    a, b = span
    inside = np.clip(starts, a, b)
    shares = np.diff(inside) / (b - a)
    peak = first + (int(starts[run]) + min(int(starts[run + 1]), b) - 1) // 2
    return Event(
        frame_start=first + a,
        frame_stop=first + b,
        start_s=(first + a) / fps,
        end_s=(first + b) / fps,
        peak_frame=peak,
        peak_s=peak / fps,
        peak_score=float(values[run]),
        mean_score=float(shares @ values),
    )
