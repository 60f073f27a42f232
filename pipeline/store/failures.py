"""One row for each video that failed, and where: nothing is swallowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ...data_manifests.atomic import write_table
from ...data_manifests.plain_text import one_line


@dataclass(frozen=True)
class Failure:
    """One video that failed at one stage."""

    video_id: str
    stage: str
    error: str
    message: str


def describe_failure(video_id: str, stage: str, error: BaseException) -> Failure:
    """A failure row of an exception."""
    return Failure(video_id, stage, type(error).__name__, one_line(str(error) or repr(error)))


def by_reason(failures: Iterable[Failure]) -> list[tuple[list[str], Failure]]:
    """Ids of the videos that failed for one reason, and the first failure: a file is named once."""
    found: dict[tuple[str, str, str], tuple[list[str], Failure]] = {}
    for failure in failures:
        reason = (failure.stage, failure.error, failure.message)
        found.setdefault(reason, ([], failure))[0].append(failure.video_id)
    return list(found.values())


def some_ids(ids: Sequence[str]) -> str:
    """Up to three ids in one text."""
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")


FAILURE_SCHEMA = pa.schema([(n, pa.string()) for n in ("video_id", "stage", "error", "message")])


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """Write failures.parquet (also when there are none)."""
    rows = [vars(f) for f in failures]
    table = pa.Table.from_pylist(rows, schema=FAILURE_SCHEMA)
    write_table(path, table)
