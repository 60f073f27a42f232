"""A score folder: the names, schemas and checks of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...data_manifests.errors import VadpipeError


class ReportError(VadpipeError, ValueError):
    """A folder from which no report can be made; the message says what is missing."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a score folder.

    Raises:
        ReportError: the file is missing or damaged.
    """
    if not path.is_file():
        raise ReportError(f"{path.parent} is no score folder: it has no {path.name} (run score)")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path} is damaged ({error}): run score and evaluate again") from error
    if not isinstance(values, dict):
        raise ReportError(f"{path} is not a JSON object: run score and evaluate again")
    return values


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table of a score folder.

    Raises:
        ReportError: the file is missing.
    """
    if not path.is_file():
        raise ReportError(f"{path.parent} is no score folder: it has no {path.name} (run score)")
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def read_scores(folder: Path, video: Mapping[str, Any]) -> pa.Table:
    """The scores of one video: frame_start, frame_stop, score.

    Raises:
        ReportError: they are missing, or the video id is no file name.
    """
    video_id = video["video_id"]
    path = folder / "scores" / f"{video_id}.parquet"
    if path.parent != folder / "scores":
        raise ReportError(f"video id {video_id!r} is no file name: this folder is not by score")
    if not path.is_file():
        raise ReportError(f"{path} is missing: run score again")
    table = pq.read_table(path, columns=["frame_start", "frame_stop", "score"])
    if not table.num_rows:
        raise ReportError(f"{path} has no scores: run score again")
    return table
