"""Regions: boxes in the frame with a score, one parquet file for each video.

Every detector that returns boxes uses this schema: object scores, explanations of attributes, parts
of a track. Metrics over regions (RBDC, TBDC) and the page read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...data_manifests.atomic import write_table
from ...data_manifests.errors import VadpipeError
from ...data_manifests.stored import read_parquet, read_parquet_notes
from .part import check_content

REGION_SCHEMA = pa.schema(
    [
        ("frame", pa.int64()),  # of the whole file
        ("x0", pa.float32()),  # left, in pixels of the video; x1 and y1 are one past the box
        ("y0", pa.float32()),  # top
        ("x1", pa.float32()),
        ("y1", pa.float32()),
        ("score", pa.float64()),  # higher = more anomalous, comparable across videos
        ("track_id", pa.int64()),  # boxes of one object; null where nothing was tracked
        ("label", pa.string()),  # what it is, for people; null where unknown
        ("explain", pa.string()),  # why it is anomalous, with numbers; null where unknown
        ("words", pa.string()),  # the same in words of a guard, without numbers; null where unknown
    ]
)
OPTIONAL = ("track_id", "label", "explain", "words")
_STAMP, _VIDEO = b"vadpipe", b"video_id"


class RegionError(VadpipeError, ValueError):
    """Boxes that cannot be used, or a damaged file of them."""


def checked_regions(table: pa.Table) -> pa.Table:
    """Boxes as they are stored: the schema in full, sorted by frame.

    Args:
        table:
            The columns of `REGION_SCHEMA` in any order; those in `OPTIONAL` may be missing.

    Returns:
        A table of `REGION_SCHEMA`. Boxes of one frame keep their order.

    Raises:
        RegionError: a column is missing, unknown, of another type, null or not finite, a frame is
            negative, or a box is empty.
    """
    names = set(table.column_names)
    missing = [n for n in REGION_SCHEMA.names if n not in names and n not in OPTIONAL]
    unknown = sorted(names - set(REGION_SCHEMA.names))
    if missing or unknown or len(names) != table.num_columns:
        raise RegionError(
            f"regions have to have the columns {', '.join(REGION_SCHEMA.names)} "
            f"({', '.join(OPTIONAL)} may be missing), not: {', '.join(table.column_names)}"
        )
    for name in OPTIONAL:
        if name not in names:
            nulls = pa.nulls(table.num_rows, REGION_SCHEMA.field(name).type)
            table = table.append_column(name, nulls)
    try:
        table = table.select(REGION_SCHEMA.names).cast(REGION_SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        raise RegionError(f"regions have a column of another type: {error}") from error
    required = [name for name in REGION_SCHEMA.names if name not in OPTIONAL]
    if nulls := [name for name in required if table[name].null_count]:
        raise RegionError(f"regions have nulls in {', '.join(nulls)}")
    values = {name: table[name].to_numpy() for name in required}
    for name, column in values.items():
        if not np.isfinite(column).all():
            raise RegionError(f"regions: {name} is not finite")
    empty = (values["x0"] >= values["x1"]) | (values["y0"] >= values["y1"])
    if empty.any() or (values["frame"] < 0).any():
        raise RegionError("regions have an empty box (x0 < x1, y0 < y1) or a negative frame")
    return table.take(np.argsort(values["frame"], kind="stable"))


def write_regions(path: Path, table: pa.Table | None, stamp: str) -> None:
    """Write the boxes of a video; None leaves no file.

    Args:
        path:
            The file, named after the video.
        table:
            See `checked_regions`.
        stamp:
            What the scores were made of.

    Raises:
        RegionError: these are no regions.
        CannotWrite: the disk is full or read-only.
    """
    if table is None:
        path.unlink(missing_ok=True)
    else:
        metadata = {_STAMP: stamp, _VIDEO: path.stem}
        write_table(path, checked_regions(table).replace_schema_metadata(metadata))


def regions_stamp(path: Path) -> str | None:
    """What the boxes in a file were made of; None without a file.

    "" where it is damaged, or of another video: then it is written again.
    """
    if not path.is_file():
        return None
    try:
        metadata = read_parquet_notes(path)
        if _owner(metadata, path) != path.stem:
            return ""
        return (metadata.get(_STAMP) or b"").decode()
    except (OSError, ValueError):
        return ""


def read_regions(path: Path, part: Path | None = None) -> pa.Table | None:
    """The boxes in a file, sorted by frame; None without a file.

    Args:
        path:
            The file.
        part:
            The scores that the boxes belong to; None compares nothing.

    Raises:
        RegionError: the file is damaged, is of another video, or is not what `write_regions`
            writes.
        ScoreFolderError: it is of other footage than the scores.
    """
    if not path.is_file():
        return None
    cure = "delete it and run score again"
    try:
        table = read_parquet(path)
        owner = _owner(table.schema.metadata or {}, path)
        table = checked_regions(table)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RegionError(f"{path} is damaged ({error}): {cure}") from error
    if owner != path.stem:
        raise RegionError(f"{path} holds the boxes of {owner!r:.200}: {cure}")
    check_content(path, regions_stamp(path), part)
    return table


def _owner(metadata: Mapping[bytes, bytes], path: Path) -> str:
    """The video that a file says it is of; files of older versions do not say it."""
    return metadata.get(_VIDEO, path.stem.encode()).decode()


def boxes_near(table: pa.Table, frame: int, start: int, stop: int) -> tuple[int, pa.Table]:
    """The boxes of the frame in [start, stop) that has any and is nearest to `frame`.

    Args:
        table:
            Of `REGION_SCHEMA`, sorted by frame.
        frame:
            Where boxes are wanted; the earlier of two equally near frames counts.
        start:
            First frame to look at.
        stop:
            One past the last.

    Returns:
        The frame and its boxes, the highest score first; `frame` and none where there are none.
    """
    frames: NDArray[np.int64] = table["frame"].to_numpy()
    low, high = np.searchsorted(frames, [start, stop])
    if low == high:
        return frame, table.slice(0, 0)
    inside = frames[low:high]
    nearest = int(inside[np.argmin(np.abs(inside - frame))])
    first, last = np.searchsorted(frames, [nearest, nearest + 1])
    boxes = table.slice(int(first), int(last - first))
    return nearest, boxes.take(np.argsort(-boxes["score"].to_numpy(), kind="stable"))


@dataclass(frozen=True)
class Why:
    """Why an event is one, by its highest box that says so.

    Attributes:
        explain: as `frame 41, box 60, 80 to 68, 100 (bicycle): speed 4.1 px/frame, training limit
            2.0`; None where no box is explained.
        words: as `a person moves much faster than usual`; None where boxes have no such words, as
            those of older versions.
    """

    explain: str | None = None
    words: str | None = None


def why_between(table: pa.Table, start: int, stop: int) -> Why:
    """What the highest explained box in the frames [start, stop) says; the first of equal scores.

    Args:
        table:
            Of `REGION_SCHEMA`, sorted by frame.
        start:
            First frame.
        stop:
            One past the last.
    """
    frames: NDArray[np.int64] = table["frame"].to_numpy()
    low, high = np.searchsorted(frames, [start, stop])
    inside = table.slice(int(low), int(high - low))
    inside = inside.filter(inside["explain"].is_valid())
    if not inside.num_rows:
        return Why()
    highest = int(np.argmax(inside["score"].to_numpy()))
    (box,) = inside.slice(highest, 1).to_pylist()
    corners = "box {x0:.0f}, {y0:.0f} to {x1:.0f}, {y1:.0f}".format(**box)
    label = f" ({box['label']})" if box["label"] else ""
    return Why(f"frame {box['frame']}, {corners}{label}: {box['explain']}", box["words"])
