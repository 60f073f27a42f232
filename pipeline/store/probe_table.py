"""The probe table: facts of files, found by path, size and time."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...data_manifests.atomic import remove_anything, write_table
from ...data_manifests.stored import DamagedFile, leave_out, read_parquet
from ...extractors.footage.probe_file import DEFAULT_FPS
from ...extractors.footage.video import ProbeRow
from .errors import StoreError
from .failures import Failure
from .keys import key_of
from .names import checked_content

MAX_PARTS = 64
_MOST = 1 << 40  # frames and pixels: arithmetic with them stays exact
PART_ROWS = 1000  # files between two parts: what a killed run has to open again

_SCHEMA = pa.schema(
    [
        ("signature", pa.string()),
        ("path", pa.string()),
        ("content_id", pa.string()),
        ("kind", pa.string()),
        ("n_frames", pa.int64()),
        ("decoded", pa.bool_()),
        ("fps", pa.float64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("rotation", pa.int64()),
        ("duration", pa.float64()),
        ("codec", pa.string()),
        ("container", pa.string()),
        ("damaged", pa.int64()),
        ("flags", pa.list_(pa.string())),
        ("key_index", pa.list_(pa.int64())),
        ("key_pts", pa.list_(pa.int64())),
        ("key_dts", pa.list_(pa.int64())),
        ("whole_id", pa.string()),
        ("stamp", pa.string()),
    ]
)


@dataclass(frozen=True)
class Probed:
    """What the files of a manifest are.

    Attributes:
        rows: video_id -> row; videos that failed are absent.
        failures: why.
        fresh: how many files were really opened this time.
    """

    rows: dict[str, ProbeRow]
    failures: list[Failure] = field(default_factory=list)
    fresh: int = 0


def chosen_rate(row: ProbeRow) -> float | None:
    """Frames per second that a user has chosen for a folder of images, which states none.

    None for other files, and for the default: results of both are older than this question.
    """
    return row.fps if row.kind == "images" and row.fps != DEFAULT_FPS else None


def digest_of_files(rows: Iterable[ProbeRow]) -> str:
    """A digest of which files these are: in another cache, a sampled id may be of another file.

    With the frame rates that were chosen for folders of images.
    """
    files = {row.whole_id or row.content_id: chosen_rate(row) for row in rows}
    rates = {name: rate for name, rate in files.items() if rate is not None}
    return key_of({"files": sorted(files), **({"rates": rates} if rates else {})})


def duplicates(probed: Probed) -> dict[str, list[str]]:
    """content_id -> the video ids that share it, where there is more than one path."""
    by_content: dict[str, dict[str, list[str]]] = {}
    for video_id, row in probed.rows.items():
        by_content.setdefault(row.content_id, {}).setdefault(row.path, []).append(video_id)
    return {
        content: [v for ids in paths.values() for v in ids]
        for content, paths in by_content.items()
        if len(paths) > 1
    }


Known = dict[tuple[str, str], ProbeRow]
"""Rows by signature and stamp: what was probed, how, and which file it was."""


def load_probes(cache: Path) -> Known:
    """All rows of a cache. Older ones have no stamp. A damaged part is left out and named."""
    rows: Known = {}
    for part in probe_parts(cache):
        try:
            rows |= read_probes(part)
        except FileNotFoundError:
            continue  # another run has just folded the parts; at worst a file is probed again
        except (DamagedFile, OSError) as error:
            leave_out(part, error, "its files are probed again; vadpipe cache repair deletes it")
    return rows


def probe_parts(cache: Path) -> list[Path]:
    """The files that rows are kept in."""
    return sorted((cache / "probe").glob("*.parquet"))


def read_probes(part: Path) -> Known:
    """The rows of one part.

    Raises:
        DamagedFile: it cannot be read, or a value is none that a probe finds.
        OSError: it is gone, or may not be read.
    """
    table = read_parquet(part)
    for column in _SCHEMA:
        if column.name not in table.column_names:  # by an older version
            table = table.append_column(column, pa.nulls(len(table), column.type))
    try:
        found = table.select(_SCHEMA.names).cast(_SCHEMA).to_pylist()
        signatures = [values.pop("signature") for values in found]
        rows = [_row(values) for values in found]
        for signature, row in zip(signatures, rows, strict=True):
            _check(signature, row)
    except (pa.ArrowException, StoreError, ValueError, TypeError, KeyError) as error:
        raise DamagedFile(f"{part} is damaged ({error})") from error
    return {(s, row.stamp): row for s, row in zip(signatures, rows, strict=True)}


def _check(signature: Any, row: ProbeRow) -> None:
    """Refuse what no probe finds: ids and paths lead to files that are opened and written.

    Raises:
        StoreError, ValueError, TypeError: a value is none that a probe finds.
    """
    checked_content(row.content_id)
    if row.whole_id:  # it may become the content id
        checked_content(row.whole_id)
    if not isinstance(row.stamp, str):
        raise TypeError("a stamp is no text")
    if not isinstance(signature, str) or not isinstance(row.path, str):
        raise TypeError("a row has no signature or no path")
    if not signature.endswith(f"|{row.path}") or not row.path or "\0" in row.path:
        raise ValueError(f"{row.path!r} is not the path that was probed")
    counts = (row.n_frames, row.height, row.width, row.damaged)
    if not all(0 <= n < _MOST for n in counts) or row.rotation not in (0, 90, 180, 270):
        raise ValueError(f"{row.path}: a number is out of range")
    if not (0 < row.fps < math.inf and 0 <= row.duration < math.inf):
        raise ValueError(f"{row.path}: {row.fps} frames per second, {row.duration} seconds")
    if row.kind not in ("video", "images") or not isinstance(row.decoded, bool):
        raise ValueError(f"{row.path}: it is neither a video nor images")
    if not all(isinstance(text, str) for text in (row.codec, row.container, *row.flags)):
        raise TypeError(f"{row.path}: a text is missing")
    if row.key_frames is not None:
        index = row.key_frames.index
        if len({len(each) for each in vars(row.key_frames).values()}) > 1 or (
            len(index) and (index[0] < 0 or (np.diff(index) <= 0).any())
        ):
            raise ValueError(f"{row.path}: key frames are not in order")


def save_probes(cache: Path, fresh: Sequence[tuple[str, ProbeRow]]) -> None:
    """Add rows to a cache, by signature; many small parts become one."""
    folder = cache / "probe"
    old = list(folder.glob("*.parquet"))
    rows = list(fresh)
    if len(old) >= MAX_PARTS:  # many small runs: fold the parts into one
        known = load_probes(cache) | {(signature, row.stamp): row for signature, row in fresh}
        rows = [(signature, row) for (signature, _), row in known.items()]
    table = pa.Table.from_pylist([_values(s, r) for s, r in rows], schema=_SCHEMA)
    path = folder / f"{uuid.uuid4().hex}.parquet"
    write_table(path, table, compression="zstd")
    if len(old) >= MAX_PARTS:
        for part in old:
            remove_anything(part)


def _values(signature: str, row: ProbeRow) -> dict[str, Any]:
    values = row.to_json()
    index, pts, dts = values.pop("key_frames") or (None, None, None)
    return {**values, "signature": signature, "key_index": index, "key_pts": pts, "key_dts": dts}


def _row(values: dict[str, Any]) -> ProbeRow:
    keys = [values.pop(f"key_{name}") for name in ("index", "pts", "dts")]
    proof = {name: values[name] or "" for name in ("whole_id", "stamp")}  # older rows have none
    return ProbeRow.from_json({**values, **proof, "key_frames": None if keys[0] is None else keys})
