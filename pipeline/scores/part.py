"""The part of one video in a score folder: its rows, what they are made of, and what it is of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...data_manifests.atomic import write_table
from ...data_manifests.errors import VadpipeError
from ...detectors.base import Scores

ROW = ("video_id", "frame_start", "frame_stop")  # all other columns are scores


class ScoreFolderError(VadpipeError, ValueError):
    """A score folder is in use, incomplete or damaged; the message says what to do."""


def write_part(
    path: Path, video_id: str, scores: Scores, stamp: str, facts: Mapping[str, Any]
) -> None:
    """Write the rows of a video.

    Args:
        path:
            The file.
        video_id:
            As in the manifest.
        scores:
            Of the detector.
        stamp:
            What they are made of.
        facts:
            What is known of the video, as JSON values.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    columns: dict[str, Any] = {
        "video_id": pa.array([video_id] * len(scores.frame_start), pa.string()),
        "frame_start": np.asarray(scores.frame_start, np.int64),
        "frame_stop": np.asarray(scores.frame_stop, np.int64),
        **{name: np.asarray(values, np.float64) for name, values in scores.columns.items()},
    }
    metadata = {"vadpipe": stamp, "maps": str(len(scores.maps)), "video": json.dumps(facts)}
    if scores.regions is not None:
        metadata["regions"] = str(scores.regions.num_rows)
    write_table(path, pa.table(columns).replace_schema_metadata(metadata))


def part_metadata(path: Path) -> Mapping[bytes, bytes]:
    """What is noted in a part: vadpipe (its stamp), maps, video (its facts), maybe regions.

    Raises:
        ScoreFolderError: it is missing or damaged.
    """
    try:
        metadata: Mapping[bytes, bytes] = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise ScoreFolderError(f"{path} is damaged ({error}): run score again") from error
    return metadata


def read_part(path: Path, column: str) -> pa.Table:
    """The rows of a video, with at least this score column.

    Raises:
        ScoreFolderError: they are missing or damaged, or lack the column.
    """
    if not path.is_file():
        raise ScoreFolderError(f"{path} is missing: run score again")
    cure = "delete it and run score again"  # its stamp may be right
    table = read_columns(path, ("frame_start", "frame_stop", "score"), cure)
    if not table.num_rows:
        raise ScoreFolderError(f"{path} has no scores: {cure}")
    known = [name for name in table.column_names if name not in ROW]
    if column not in known:
        raise ScoreFolderError(f"{path} has no score column {column!r}; it has: {', '.join(known)}")
    return table


def read_columns(path: Path, columns: tuple[str, ...], cure: str = "run score again") -> pa.Table:
    """A table with at least these columns.

    Raises:
        ScoreFolderError: the file cannot be read, or has other columns.
    """
    try:
        table = pq.ParquetFile(path).read()  # a file, never a data set: folder names are no columns
    except (pa.ArrowException, OSError) as error:
        raise ScoreFolderError(f"{path} is damaged ({error}): {cure}") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ScoreFolderError(f"{path} has no column {', '.join(missing)}: {cure}")
    return table
