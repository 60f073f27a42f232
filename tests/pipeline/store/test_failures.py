"""Failures: a row each, with the class of the error and its words."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from vadpipe.extractors.footage.errors import EmptyFile
from vadpipe.pipeline.store.failures import (
    FAILURE_SCHEMA,
    Failure,
    describe_failure,
    write_failures,
)


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (EmptyFile("a.mp4: the file is empty"), "EmptyFile", "a.mp4: the file is empty"),
        (KeyError("frames"), "KeyError", "'frames'"),
        (MemoryError(), "MemoryError", "MemoryError()"),  # an error without words is no blank
        (OSError(28, "No space left on device"), "OSError", "[Errno 28] No space left on device"),
    ],
)
def test_a_failure_says_class_and_message(error: Exception, name: str, message: str) -> None:
    assert describe_failure("01", "extract", error) == Failure("01", "extract", name, message)


def test_failures_come_back_in_order(tmp_path: Path) -> None:
    rows = [Failure(f"{i}", "probe", "NotAVideo", f"ünlesbar\n{i}") for i in (3, 1, 2)]
    path = tmp_path / "new" / "failures.parquet"
    write_failures(path, iter(rows))
    assert [Failure(**row) for row in pq.read_table(path).to_pylist()] == rows
    assert [p.name for p in path.parent.iterdir()] == ["failures.parquet"]


def test_no_failures_are_an_empty_table_of_the_same_columns(tmp_path: Path) -> None:
    path = tmp_path / "failures.parquet"
    write_failures(path, [Failure("1", "probe", "NotAVideo", "")])
    write_failures(path, [])
    table = pq.read_table(path)
    assert table.num_rows == 0 and table.schema == FAILURE_SCHEMA
