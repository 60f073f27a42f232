"""One row for each video that failed, and where: nothing is swallowed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ...data_manifests.atomic import write_table


@dataclass(frozen=True)
class Failure:
    """One video that failed at one stage."""

    video_id: str
    stage: str
    error: str
    message: str


def describe_failure(video_id: str, stage: str, error: BaseException) -> Failure:
    """A failure row of an exception."""
    return Failure(video_id, stage, type(error).__name__, str(error) or repr(error))


FAILURE_SCHEMA = pa.schema([(n, pa.string()) for n in ("video_id", "stage", "error", "message")])


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """Write failures.parquet (also when there are none)."""
    rows = [vars(f) for f in failures]
    table = pa.Table.from_pylist(rows, schema=FAILURE_SCHEMA)
    write_table(path, table)
