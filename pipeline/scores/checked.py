"""What the tables of a score folder say, checked before anything is made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...data_manifests.errors import VadpipeError
from .box_counts import BoxCounts

MOST_FRAMES = 1 << 40  # of a video: arithmetic with them stays exact


class ScoreFolderError(VadpipeError, ValueError):
    """A score folder is in use, incomplete or damaged; the message says what to do."""


def checked_videos(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Check rows of the table of videos.

    Raises:
        ScoreFolderError: a value is none that a video has, or an id comes twice.
    """
    seen: set[str] = set()
    for row in rows:
        video_id = row["video_id"]
        if not isinstance(video_id, str) or Path(f"x/{video_id}").parts != ("x", video_id):
            raise _not_ours(path, f"video id {video_id!r:.200} is not a file name")
        if video_id in seen:
            raise _not_ours(path, f"video {video_id!r} comes twice")
        seen.add(video_id)
        fps = row["fps"]
        if not _is_number(fps) or fps <= 0:
            raise ScoreFolderError(
                f"{path}: video {video_id!r} has {fps} frames per second: run score again"
            )
        counts = [row[name] for name in ("frame_start", "frame_stop", "n_frames")]
        sizes = [row[name] for name in ("height", "width") if row[name] is not None]
        if not all(_is_frame(n) for n in (*counts, *sizes)):
            raise _not_ours(path, f"video {video_id!r} has a size or frames that no video has")
        if not counts[0] <= counts[1] <= counts[2]:
            raise _not_ours(path, f"video {video_id!r} has scores outside of its frames")
        texts = [row[name] for name in ("path", "content_id", "kind") if row[name] is not None]
        flags = [] if row["flags"] is None else row["flags"]
        texts += [] if row.get("scene") is None else [row["scene"]]
        if not _are_texts(texts) or not _are_texts(flags) or "\0" in (row["path"] or ""):
            raise _not_ours(path, f"video {video_id!r} has something else in place of a text")


def checked_events(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Check rows of the table of events.

    Raises:
        ScoreFolderError: a value is none that an event has.
    """
    for row in rows:
        frames = [row[name] for name in ("frame_start", "peak_frame", "frame_stop")]
        seconds = [row[name] for name in ("start_s", "end_s", "peak_s", "peak_score", "mean_score")]
        if not _are_texts([row["video_id"], row["event_id"]]):
            raise _not_ours(path, "an event lacks its id or its video")
        if not all(map(_is_frame, frames)) or not frames[0] <= frames[1] < frames[2]:
            raise _not_ours(path, f"event {row['event_id']!r} has frames that no event has")
        if row.get("scene") is not None and not _are_texts([row["scene"]]):
            raise _not_ours(path, f"event {row['event_id']!r} has a scene that is no text")
        if not all(map(_is_number, seconds)):
            raise _not_ours(path, f"event {row['event_id']!r} has a number that is not finite")


def checked_failures(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Check rows of the table of failures.

    Raises:
        ScoreFolderError: a text is missing.
    """
    if not all(_are_texts(list(row.values())) for row in rows):
        raise _not_ours(path, "a failure lacks a text")


def checked_part(table: pa.Table, path: Path, cure: str) -> pa.Table:
    """Check the rows of one video; columns of scores become float64.

    Raises:
        ScoreFolderError: a frame or a score is missing, of another type or out of range.
    """
    try:
        for at, name in enumerate(table.column_names):
            kind = pa.string() if name == "video_id" else pa.float64()
            kind = pa.int64() if name in ("frame_start", "frame_stop") else kind
            if table.schema.field(name).type != kind:
                table = table.set_column(at, name, table[name].cast(kind))
    except (pa.ArrowException, ValueError) as error:
        raise ScoreFolderError(f"{path} is damaged ({error}): {cure}") from error
    if any(column.null_count for column in table.columns):
        raise ScoreFolderError(f"{path} is damaged (a value is missing): {cure}")
    start, stop = (table[name].to_numpy() for name in ("frame_start", "frame_stop"))
    if (start < 0).any() or (stop <= start).any() or (stop >= MOST_FRAMES).any():
        raise ScoreFolderError(f"{path} is damaged (a row has frames that none has): {cure}")
    return table


def checked_run(run: Mapping[str, Any], path: Path) -> None:
    """Check what others take from the description of a run.

    Raises:
        ScoreFolderError: `model` or `threshold` is not an object, warnings are no texts, or counts
            of boxes no numbers.
    """
    for name in ("model", "threshold"):
        if not isinstance(run.get(name) or {}, dict):
            raise ScoreFolderError(f"{path}: {name} is not an object: run score again")
    scenes = (run.get("threshold") or {}).get("scenes") or {}
    if not isinstance(scenes, dict) or not all(
        isinstance(levels, dict) and _is_number(levels.get("high")) for levels in scenes.values()
    ):
        raise _not_ours(path, "the thresholds of scenes are no numbers")
    warnings = (run.get("threshold") or {}).get("warnings", [])
    if not isinstance(warnings, list) or not _are_texts(warnings):
        raise _not_ours(path, "the warnings are no texts")
    try:
        BoxCounts.of_run(run)
    except ValueError as error:
        raise _not_ours(path, str(error)) from error


def _not_ours(path: Path, reason: str) -> ScoreFolderError:
    return ScoreFolderError(f"{path}: {reason}: this folder was not written by score")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_frame(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST_FRAMES


def _are_texts(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)
