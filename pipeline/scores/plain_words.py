"""Why an event is one, in words of a guard: of its boxes, else of its detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...data_manifests.errors import VadpipeError
from ...detectors.plain_words import USUAL
from .folder import ScoreFolder
from .regions import Why, why_between


def general_words(run: Mapping[str, Any]) -> str:
    """What a high score of the detector of a run means, where no box says more.

    Args:
        run:
            See `ScoreFolder.run`; those of older versions do not say it.
    """
    said = (run.get("model") or {}).get("words")
    return said if isinstance(said, str) and said else USUAL


def add_reasons(folder: ScoreFolder, rows: Sequence[dict[str, Any]]) -> dict[str, VadpipeError]:
    """Give rows that have none the reasons of their boxes: `explain` and `words`, None if unknown.

    The table of events has the reasons of the score; moments and events of other columns do not.

    Args:
        folder:
            The score folder.
        rows:
            Events or moments; those with `explain` are left as they are.

    Returns:
        Videos whose boxes cannot be read, and why: their rows have no reason. The caller decides
        whether that is an error.
    """
    damaged: dict[str, VadpipeError] = {}
    waiting: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "explain" not in row:
            waiting.setdefault(row["video_id"], []).append(row)
    for video_id, own in waiting.items():
        try:
            table = folder.regions(video_id)
        except VadpipeError as error:
            table, damaged[video_id] = None, error
        for row in own:
            span = row["frame_start"], row["frame_stop"]
            why = Why() if table is None else why_between(table, *span)
            row.update(explain=why.explain, words=why.words)
    return damaged
