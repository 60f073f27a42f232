"""Reading JSON, TOML and Parquet that anyone may have damaged: every fault is one error.

What a file says is checked by the code that reads it; that it can be read at all is checked here.
"""

from __future__ import annotations

import json
import logging
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import VadpipeError
from .plain_text import plain

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

_HALF = re.compile(r"\\u[dD][89a-fA-F]")

MOST_TEXT = 1 << 28  # bytes of a JSON or TOML file
MOST_ROWS = 1 << 28  # of one table: a few bytes of Parquet can claim any number
DEEPEST = 200  # brackets in brackets: readers of values are recursive too

logger = logging.getLogger(__name__)
_named: set[str] = set()


class DamagedFile(VadpipeError, ValueError):
    """The content of a file is not what its writer writes; the message names the file."""


def _damaged(where: object, reason: object) -> DamagedFile:
    return DamagedFile(f"{where} is damaged ({reason})")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DamagedFile: the content is not UTF-8, no JSON, no object, too large or too deep.
        OSError: there is no such file, or it may not be read.
    """
    values = _parsed(path, json.loads)
    if not isinstance(values, dict):
        raise _damaged(path, "it is not a JSON object")
    return values


def parse_json(text: str | bytes, where: object) -> Any:
    """The value of JSON that stands inside of another file.

    Args:
        text:
            JSON.
        where:
            What the message names.

    Raises:
        DamagedFile: it is no JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise _damaged(where, error) from error


def read_toml(path: Path) -> dict[str, Any]:
    """The values in a TOML file.

    Raises:
        DamagedFile: the content is not UTF-8, no TOML, too large or too deep.
        OSError: there is no such file, or it may not be read.
    """
    return _parsed(path, tomllib.loads)


def _parsed(path: Path, parse: Callable[[str], T]) -> T:
    check_file(path)
    if path.stat().st_size > MOST_TEXT:
        raise _damaged(path, f"it has more than {MOST_TEXT:,} bytes")
    try:
        text = path.read_bytes().decode("utf-8-sig")  # editors on Windows put a mark first
        values = parse(text)
        if _depth(values) > DEEPEST:
            raise _damaged(path, f"more than {DEEPEST} brackets in each other")
        if _HALF.search(text):  # half a character, which no other file can store
            json.dumps(values, ensure_ascii=False, default=str).encode()
    except DamagedFile:
        raise
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    return values


def _depth(values: object) -> int:
    """How many containers lie in each other; without recursion."""
    depth, level = 0, [values]
    while level and depth <= DEEPEST:
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        depth += 1
    return depth


def read_parquet(path: Path, schema: pa.Schema | None = None) -> pa.Table:
    """All rows of a Parquet file.

    Args:
        path:
            A file, never a folder: names of folders would become columns.
        schema:
            The columns to return, in this order and of these types; None returns all as they are.

    Raises:
        DamagedFile: the content is no Parquet, text in it is not UTF-8, or a column is missing or
            of another type.
        OSError: there is no such file, or it may not be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_file(path)
    with path.open("rb"):  # what the system says is no damage: it must not be taken for one
        pass
    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MOST_ROWS:
                raise _damaged(path, f"it claims {file.metadata.num_rows:,} rows")
            table = file.read()
        table.validate(full=True)
        names = table.column_names
        if len(set(names)) < len(names):
            raise _damaged(path, "several columns have one name")
        if schema is not None:
            if missing := [name for name in schema.names if name not in names]:
                raise _damaged(path, f"no column {', '.join(missing)}")
            table = table.select(schema.names).cast(schema)
    except DamagedFile:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(path, error) from error
    return table


def read_parquet_notes(path: Path) -> dict[bytes, bytes]:
    """The metadata in the schema of a Parquet file, without its rows.

    Raises:
        DamagedFile: the content is no Parquet.
        OSError: there is no such file, or it may not be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_file(path)
    with path.open("rb"):
        pass
    try:
        return dict(pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(path, error) from error


def check_file(path: Path) -> None:
    """Refuse folders, and pipes and devices, which would block or never end.

    Raises:
        DamagedFile: there is something else than a file.
    """
    if path.exists() and not path.is_file():
        raise _damaged(path, "it is not a file")


def leave_out(path: Path, error: BaseException, cure: str) -> None:
    """Warn that a derived file cannot be used and is left out; once for each file and error.

    Args:
        path:
            The file.
        error:
            Why.
        cure:
            What makes the file again.
    """
    reason = str(error) if str(path) in str(error) else f"{path} is damaged ({error})"
    if reason not in _named:
        _named.add(reason)
        logger.warning("%s", plain(f"left out: {reason}; {cure}"))
