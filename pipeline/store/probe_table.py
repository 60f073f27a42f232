"""The probe table: facts of files, found by path, size and time."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...data_manifests.atomic import write_table
from ...extractors.footage.video import ProbeRow
from .failures import Failure

MAX_PARTS = 64
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


def load_probes(cache: Path) -> dict[str, ProbeRow]:
    """All rows of a cache by their signature."""
    rows: dict[str, ProbeRow] = {}
    for part in sorted((cache / "probe").glob("*.parquet")):
        try:
            table = pq.read_table(part, schema=_SCHEMA)
        except FileNotFoundError:
            continue  # another run has just folded the parts; at worst a file is probed again
        for values in table.to_pylist():
            signature = values.pop("signature")
            rows[signature] = _row(values)
    return rows


def save_probes(cache: Path, fresh: Sequence[tuple[str, ProbeRow]]) -> None:
    """Add rows to a cache, by signature; many small parts become one."""
    folder = cache / "probe"
    old = list(folder.glob("*.parquet"))
    rows = list(fresh)
    if len(old) >= MAX_PARTS:  # many small runs: fold the parts into one
        rows = list((load_probes(cache) | dict(fresh)).items())
    table = pa.Table.from_pylist([_values(s, r) for s, r in rows], schema=_SCHEMA)
    path = folder / f"{uuid.uuid4().hex}.parquet"
    write_table(path, table, compression="zstd")
    if len(old) >= MAX_PARTS:
        for part in old:
            part.unlink(missing_ok=True)


def _values(signature: str, row: ProbeRow) -> dict[str, Any]:
    values = row.to_json()
    index, pts, dts = values.pop("key_frames") or (None, None, None)
    return {**values, "signature": signature, "key_index": index, "key_pts": pts, "key_dts": dts}


def _row(values: dict[str, Any]) -> ProbeRow:
    keys = [values.pop(f"key_{name}") for name in ("index", "pts", "dts")]
    return ProbeRow.from_json({**values, "key_frames": None if keys[0] is None else keys})
