"""The part of one video in a score folder: its rows, what they are made of, and what it is of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...data_manifests.atomic import write_table
from ...data_manifests.record import VideoRecord
from ...data_manifests.stored import DamagedFile, parse_json, read_parquet, read_parquet_notes
from ...detectors.base import Scores
from ...extractors.footage.video import ProbeRow
from ..store.keys import canonical_json
from .box_counts import count_in
from .checked import ScoreFolderError as ScoreFolderError
from .checked import checked_part
from .smoothing import RAW, Smoothing, smooth_rows
from .video_tables import table_facts

SCORE_VERSION = 2
ROW = ("video_id", "frame_start", "frame_stop")  # all other columns are scores


def part_stamp(key: str, record: VideoRecord, row: ProbeRow, imported: Sequence[str]) -> str:
    """What the scores of a video are made of, as text; other scores have another stamp.

    Args:
        key:
            Of the model.
        record:
            The video.
        row:
            Its file.
        imported:
            Checksums of its imported features: a recipe does not tell what these hold.
    """
    made_of: dict[str, Any] = {
        "score_version": SCORE_VERSION,
        "model": key,
        "content_id": row.content_id,
        "part": list(record.part),
    }
    return canonical_json(made_of | ({"imported": list(imported)} if imported else {}))


def check_content(path: Path, stamp: str | None, part: Path | None) -> None:
    """Compare the content that maps or boxes are of with that of the scores, where both state one.

    Args:
        path:
            The file of maps or boxes.
        stamp:
            Its stamp.
        part:
            The scores; where there are none, nothing is compared.

    Raises:
        ScoreFolderError: they are of different contents, or the part is damaged.
    """
    if not stamp or part is None or not part.is_file():
        return
    own, other = _content_of(part_metadata(part).get(b"vadpipe", b"")), _content_of(stamp.encode())
    if None not in (own, other) and own != other:
        raise ScoreFolderError(f"{path} is of other footage than the scores: run score again")


def _content_of(stamp: bytes) -> str | None:
    try:
        content = parse_json(stamp, "a stamp")["content_id"]
    except (DamagedFile, TypeError, LookupError):
        return None
    return content if isinstance(content, str) else None


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


def smooth_part(path: Path, smoothing: Smoothing | None) -> None:
    """Smooth the scores of a part, or take back an earlier smoothing; a part that is so is left.

    The scores of the detector stay in the column `RAW`.

    Raises:
        ScoreFolderError: the part is missing or damaged.
        CannotWrite: the disk is full or read-only.
    """
    metadata = dict(part_metadata(path))
    wanted = b"" if smoothing is None else smoothing.text.encode()
    if metadata.get(b"smooth", b"") == wanted:
        return
    table = read_part(path, RAW if b"smooth" in metadata else "score")
    names = [name for name in table.column_names if name != RAW]
    raw = table[RAW] if b"smooth" in metadata else table["score"]
    table = table.select(names).set_column(names.index("score"), "score", raw)
    metadata.pop(b"smooth", None)
    if smoothing is not None:
        smooth = smooth_rows(
            table["frame_start"].to_numpy(),
            table["frame_stop"].to_numpy(),
            raw.to_numpy(),
            table_facts(metadata)["fps"],
            smoothing,
        )
        at = names.index("score")
        table = table.set_column(at, "score", pa.array(smooth)).append_column(RAW, raw)
        metadata[b"smooth"] = wanted
    write_table(path, table.replace_schema_metadata(metadata))


def part_metadata(path: Path) -> Mapping[bytes, bytes]:
    """What is noted in a part: vadpipe (its stamp), maps, video (its facts), maybe regions.

    Raises:
        ScoreFolderError: it is missing or damaged.
    """
    try:
        return read_parquet_notes(path)
    except (DamagedFile, OSError) as error:
        raise ScoreFolderError(f"{error}: run score again") from error


def file_inside(folder: Path, video_id: str, suffix: str) -> Path:
    """A file of a video; its id may come from a table that anyone can have written.

    Raises:
        ScoreFolderError: it would lie elsewhere.
    """
    path = folder / f"{video_id}{suffix}"
    if path.parent != folder:
        raise ScoreFolderError(
            f"video id {video_id!r} is not a file name: this folder was not written by score"
        )
    return path


def is_of_weights(metadata: Mapping[bytes, bytes], weights: str | None) -> bool:
    """Whether a part was scored with these weights of its model.

    The key of a model says how it was trained. Trained again (`--force`) on another device, its
    weights differ a little, and so do its scores.

    Args:
        metadata:
            Of the part. Those of older versions name no weights.
        weights:
            SHA-256 of the weights file; None compares nothing.
    """
    try:
        stated = parse_json(metadata.get(b"video", b""), "a part of the scores").get("weights")
    except (DamagedFile, AttributeError):
        return False  # it is written again
    return stated is None or weights in (None, stated)


def is_of_file(metadata: Mapping[bytes, bytes], row: ProbeRow | None) -> bool:
    """Whether a part was made of the file that was probed.

    Args:
        metadata:
            Of the part. Those of older versions do not state the file, but its number of frames;
            what others have extracted has a length of its own. A folder of images is the file at
            the frame rate that was chosen for it.
        row:
            The file; where there is none, or it was made by hand, nothing is compared.
    """
    if row is None or not row.whole_id:
        return True
    try:
        imported = "imported" in parse_json(metadata.get(b"vadpipe", b""), "a part of the scores")
        facts = parse_json(metadata.get(b"video", b""), "a part of the scores")
        stated, n_frames = facts.get("whole_id"), facts.get("n_frames")
        if row.kind == "images" and facts.get("fps") != row.fps:
            return False  # the user has chosen another rate
    except (DamagedFile, AttributeError):
        return False  # it is written again
    if stated:
        return bool(stated == row.whole_id)
    return imported or bool(n_frames == row.n_frames)


def count_of_part(metadata: Mapping[bytes, bytes]) -> float | None:
    """Boxes a frame of the features that a part was made of; None where it states none.

    Args:
        metadata:
            Of the part. Those of older versions do not state it.
    """
    try:
        return count_in(parse_json(metadata.get(b"video", b""), "a part of the scores"))
    except (DamagedFile, AttributeError):
        return None


def whole_id_of(metadata: Mapping[bytes, bytes]) -> str:
    """The id of every byte of the file that a part was made of.

    Args:
        metadata:
            Of the part. Those of older versions do not state it: "".
    """
    try:
        stated = parse_json(metadata.get(b"video", b""), "a part of the scores").get("whole_id")
    except (DamagedFile, AttributeError):
        return ""
    return stated if isinstance(stated, str) else ""


def read_part(path: Path, column: str) -> pa.Table:
    """The rows of a video, with at least this score column.

    Raises:
        ScoreFolderError: they are missing or damaged, lack the column, or are of another video.
    """
    if not path.is_file():
        raise ScoreFolderError(f"{path} is missing: run score again")
    cure = "delete it and run score again"  # its stamp may be right
    table = read_columns(path, ("frame_start", "frame_stop", "score"), cure)
    table = checked_part(table, path, cure)
    if "video_id" in table.column_names:
        other = pc.unique(table["video_id"]).to_pylist()
        if other not in ([], [path.name.removesuffix(".parquet")]):
            raise ScoreFolderError(f"{path} holds the scores of {other[0]!r}: {cure}")
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
        table = read_parquet(path)
    except (DamagedFile, OSError) as error:
        raise ScoreFolderError(f"{error}: {cure}") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ScoreFolderError(f"{path} has no column {', '.join(missing)}: {cure}")
    return table
