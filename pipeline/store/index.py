"""The index of a feature set: a Parquet copy of what its shards say, in parts."""

from __future__ import annotations

import errno
import re
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ...data_manifests.atomic import remove_anything, write_table
from ...data_manifests.stored import DamagedFile, leave_out, parse_json, read_parquet
from .names import CONTENT_PATTERN
from .shard import INDEX_SCHEMA, ShardRow

_PART_NAME = re.compile(r"(\d{9,})-[0-9a-f]{32}\.parquet")
_NEEDED = ("content_id", "frame_start", "frame_stop", "rows", "size", "checksum")


class ShardIndex:
    """The parts in `index/` of a feature set. A damaged part is left out and named.

    Its shards count as not listed then: planning, training and imports open them, and the next
    run lists them again.

    Args:
        folder:
            `index/`; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def parts(self) -> list[Path]:
        """All parts, in the order in which they were made."""
        parts = self._folder.glob("*.parquet")
        return sorted(parts, key=lambda path: (_number(path), path.name))

    def add(self, rows: Sequence[ShardRow]) -> None:
        """List shards."""
        if rows:
            self._add(pa.Table.from_pylist([asdict(row) for row in rows], schema=INDEX_SCHEMA))

    def _add(self, table: pa.Table, number: int | None = None) -> None:
        """Write a part that is read after all others, or with a given number: later rows count."""
        if number is None:
            number = max(map(_number, self.parts()), default=0) + 1
        write_table(self._folder / f"{number:09d}-{uuid.uuid4().hex}.parquet", table)

    def table(self, contents: Collection[str] | None = None) -> pa.Table:
        """All parts as one table; of a shard written twice, the later row counts.

        Args:
            contents:
                Only the shards of these videos; None reads all.

        Raises:
            OSError: a part cannot be read now; nothing says that it is damaged.
        """
        tables = []
        for path in self.parts():
            try:
                part = read_part(path)
            except FileNotFoundError:
                continue  # another run has just folded the parts
            except (DamagedFile, OSError) as error:
                if not _is_damage(error):
                    raise  # a part that is only left out would be lost when the index is folded
                leave_out(path, error, "vadpipe cache repair makes the index again")
                continue
            if contents is not None:
                wanted = pa.array(contents, pa.string())
                part = part.filter(pc.is_in(part["content_id"], value_set=wanted))
            tables.append(part)
        table = pa.concat_tables([INDEX_SCHEMA.empty_table(), *tables])
        keys = ["content_id", "frame_start", "frame_stop"]
        others = [name for name in INDEX_SCHEMA.names if name not in keys]
        return pa.table(
            table.group_by(keys, use_threads=False)
            .aggregate([(name, "last") for name in others])
            .rename_columns([*keys, *others])
            .sort_by([(k, "ascending") for k in keys])
        )

    def fold(self, most: int) -> None:
        """Make one part of many; other processes may read and add meanwhile."""
        old = self.parts()
        if len(old) > most:
            # It gets the number of the last part, so parts that others add meanwhile sort after it.
            self._add(self.table(), _number(old[-1]))
            for part in old:
                remove_anything(part)

    def remove(self, contents: Collection[str]) -> None:
        """Take the shards of some videos out; other processes may read and add meanwhile."""
        old = self.parts()
        if old:
            table = self.table()
            gone = pc.is_in(table["content_id"], value_set=pa.array(contents, pa.string()))
            # The number of the last part: parts that others add meanwhile sort after it.
            self._add(table.filter(pc.invert(gone)), _number(old[-1]))
            for part in old:
                remove_anything(part)

    def damaged(self) -> Iterator[tuple[Path, Exception]]:
        """The parts that cannot be used, and why."""
        for path in self.parts():
            try:
                read_part(path)
            except FileNotFoundError:
                continue
            except (DamagedFile, OSError) as error:
                if not _is_damage(error):
                    raise
                yield path, error


def _is_damage(error: Exception) -> bool:
    """Whether a part cannot be read for good, and not only now (a busy disk, too many files)."""
    if not isinstance(error, OSError):
        return True
    return error.errno in (errno.ELOOP, errno.EISDIR, errno.ENOTDIR)


def read_part(path: Path) -> pa.Table:
    """One part, with the columns of `INDEX_SCHEMA`; those of later versions are null.

    Raises:
        DamagedFile: it cannot be read, or a value is none that a shard has.
        FileNotFoundError: it is gone.
    """
    part = read_parquet(path)
    for field in INDEX_SCHEMA:
        if field.name not in part.column_names and field.name not in _NEEDED:
            part = part.append_column(field, pa.nulls(len(part), field.type))
    try:
        part = part.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise DamagedFile(f"{path} is damaged ({error})") from error
    for name in _NEEDED:
        if part[name].null_count:
            raise DamagedFile(f"{path} is damaged (a shard has no {name})")
    good = [
        pc.match_substring_regex(part["content_id"], CONTENT_PATTERN),
        pc.greater_equal(part["frame_start"], 0),
        pc.greater(part["frame_stop"], part["frame_start"]),
        pc.greater_equal(part["rows"], 0),
        pc.greater_equal(part["size"], 0),
        pc.not_equal(part["checksum"], ""),
    ]
    if not all(pc.all(column, min_count=0).as_py() for column in good):
        raise DamagedFile(f"{path} is damaged (a value is none that a shard has)")
    for text in pc.unique(part["axis_rows"]).drop_null().to_pylist():
        counts = parse_json(text, path)
        if not isinstance(counts, dict) or not all(type(n) is int for n in counts.values()):
            raise DamagedFile(f"{path} is damaged (rows of axes are no numbers)")
    return part


def _number(path: Path) -> int:
    """0 for parts of older versions, which had none."""
    match = _PART_NAME.fullmatch(path.name)
    return int(match[1]) if match else 0
