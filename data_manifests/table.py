"""A manifest as a file: Parquet for machines, CSV for people with a spreadsheet.

Reading either form returns exactly what was written. The columns:

    video_id  path  split  label  scene  category  expected_frames  anomalies  part_start
    part_stop  masks  tracks

Older files have no `category` column; their categories are None.

Parquet keeps the data set's name and the root in the schema's metadata. CSV keeps them in two rows
above the header. An empty cell is None. Anomalies are written so that no spreadsheet takes them for
a date:

    #dataset,ucsd_ped2
    #root,/data/UCSDped2
    video_id,path,split,label,scene,category,expected_frames,anomalies,part_start,part_stop,masks,tracks
    Train001,Train/Train001,train,0,ped2,,120,normal,0.0,1.0,,
    Test001,Test/Test001,test,1,ped2,,180,60..180,0.0,1.0,Test/Test001_gt,
    cam7.mp4,cam7.mp4,all,,,,,,0.0,1.0,,
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from .atomic import write_atomically
from .record import Manifest, ManifestError, VideoRecord
from .stored import DamagedFile, read_parquet

RANGE = pa.struct([pa.field("start", pa.int64(), False), pa.field("stop", pa.int64(), False)])
SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("path", pa.string()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.int8()),
        pa.field("scene", pa.string()),
        pa.field("category", pa.string()),
        pa.field("expected_frames", pa.int64()),
        pa.field("anomalies", pa.list_(pa.field("range", RANGE, nullable=False))),
        pa.field("part_start", pa.float64(), nullable=False),
        pa.field("part_stop", pa.float64(), nullable=False),
        pa.field("masks", pa.string()),
        pa.field("tracks", pa.string()),
    ]
)
SUFFIXES = (".parquet", ".csv")
OPTIONAL = ("category",)  # columns that older files do not have
NORMAL = "normal"  # how CSV writes an empty list of anomalies


def write_manifest(manifest: Manifest, path: Path) -> Path:
    """Write a manifest to `*.parquet` or `*.csv`; the file appears whole or not at all.

    Returns:
        The path.

    Raises:
        ManifestError: the suffix is another one, or a text is too long for a CSV cell.
        CannotWrite: the disk is full or read-only.
    """
    write = {".parquet": _write_parquet, ".csv": _write_csv}[_suffix(path)]
    write_atomically(path, partial(write, manifest))
    return path


def read_manifest(path: Path, *, root: Path | None = None) -> Manifest:
    """Read a manifest that `write_manifest` wrote, or a CSV that a person wrote or changed.

    Args:
        path:
            `*.parquet` or `*.csv`.
        root:
            Where the footage lies now; replaces the root in the file. A relative root in the file
            is relative to the file's folder.

    Raises:
        ManifestError: there is no such file, a column is unknown or missing, or a row is bad; the
            message names row (1 = the first video) and column.
    """
    if path.suffix.lower() not in SUFFIXES and path.exists():
        raise ManifestError(_no_manifest(path))
    read = {".parquet": _read_parquet, ".csv": _read_csv}[_suffix(path)]
    if path.is_dir():
        raise ManifestError(_no_manifest(path))
    if not path.is_file():
        raise ManifestError(f"manifest {path} does not exist: write one with `vadpipe manifest`")
    dataset, stored_root, rows = read(path)
    records = tuple(_record(path, number, row) for number, row in enumerate(rows, start=1))
    if root is None and not stored_root:
        raise ManifestError(
            f"{path} names no root: write the row '#root,FOLDER' (root=FOLDER in Python)"
        )
    where = path.absolute().parent / stored_root if root is None else root
    try:
        return Manifest(dataset=dataset, root=str(where), records=records)
    except ValidationError as error:
        raise ManifestError(f"{path}: {_reason(error)}") from error


def _no_manifest(path: Path) -> str:
    """What to do with footage where a manifest is needed."""
    kind = "a folder" if path.is_dir() else "a file of another kind"
    name = shlex.quote(f"{path.absolute().name or 'footage'}.parquet")
    return (
        f"{path} is {kind}, not a manifest. If it is footage, list it first: "
        f"`vadpipe manifest footage {shlex.quote(str(path))} -o {name}`, then name {name} here"
    )


def _suffix(path: Path) -> str:
    if path.suffix.lower() not in SUFFIXES:
        raise ManifestError(f"a manifest is a .parquet or a .csv file, not {path.name!r}")
    return path.suffix.lower()


def _row(record: VideoRecord) -> dict[str, Any]:
    """One value a column; ranges become dicts."""
    row = record.model_dump(exclude={"part"})
    if record.anomalies is not None:
        row["anomalies"] = [{"start": start, "stop": stop} for start, stop in record.anomalies]
    row["part_start"], row["part_stop"] = record.part
    return {name: row[name] for name in SCHEMA.names}


def _record(path: Path, number: int, row: Mapping[str, Any]) -> VideoRecord:
    values = dict(row)
    values["part"] = (values.pop("part_start"), values.pop("part_stop"))
    if values["anomalies"] is not None:
        values["anomalies"] = tuple(tuple((r or {}).values()) for r in values["anomalies"])
    try:
        return VideoRecord.model_validate(values)
    except ValidationError as error:
        raise ManifestError(f"{path}, row {number}, {_reason(error)}") from error


def _reason(error: ValidationError) -> str:
    """pydantic's first error as "column NAME: ..."; a rule over several columns names the video."""
    first = error.errors(include_url=False)[0]
    column = f"column {first['loc'][0]}: " if first["loc"] else ""
    return column + first["msg"].removeprefix("Value error, ")


def _check_columns(path: Path, found: Iterable[str]) -> None:
    found = list(found)
    unknown = [name for name in found if name not in SCHEMA.names or found.count(name) > 1]
    missing = [name for name in SCHEMA.names if name not in found and name not in OPTIONAL]
    if unknown or missing:
        raise ManifestError(
            f"{path}: unknown or repeated columns: {', '.join(unknown) or 'none'}; missing "
            f"columns: {', '.join(missing) or 'none'}; a manifest has {', '.join(SCHEMA.names)}"
        )


def _write_parquet(manifest: Manifest, path: Path) -> None:
    schema = SCHEMA.with_metadata(
        {"vadpipe.dataset": manifest.dataset, "vadpipe.root": manifest.root}
    )
    table = pa.Table.from_pylist([_row(record) for record in manifest.records], schema=schema)
    pq.write_table(table, path)


def _read_parquet(path: Path) -> tuple[str, str, list[dict[str, Any]]]:
    try:
        table = read_parquet(path)
    except (DamagedFile, OSError) as error:
        raise ManifestError(f"{path} cannot be read as Parquet: {error}") from error
    _check_columns(path, table.schema.names)
    for name in OPTIONAL:
        if name not in table.schema.names:
            table = table.append_column(SCHEMA.field(name), pa.nulls(len(table), pa.string()))
    metadata = table.schema.metadata or {}
    if b"vadpipe.dataset" not in metadata:
        raise ManifestError(
            f"{path} has no data set name in its metadata: some tools drop it when they rewrite "
            "a Parquet file; edit the manifest as CSV instead"
        )
    columns = []
    for field in SCHEMA:
        column = table[field.name]
        if not field.nullable and column.null_count:
            row = column.is_null().to_pylist().index(True) + 1
            raise ManifestError(f"{path}, row {row}, column {field.name}: is empty")
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ManifestError(f"{path}, column {field.name}: {error}") from error
    rows = pa.table(columns, names=SCHEMA.names).to_pylist()
    dataset, root = (metadata.get(f"vadpipe.{k}".encode(), b"") for k in ("dataset", "root"))
    return dataset.decode(errors="replace"), root.decode(errors="replace"), rows


def _write_csv(manifest: Manifest, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["#dataset", manifest.dataset])
        writer.writerow(["#root", manifest.root])
        writer.writerow(SCHEMA.names)
        for record in manifest.records:
            cells = {name: _cell(value) for name, value in _row(record).items()}
            for name, cell in cells.items():
                if len(cell) > csv.field_size_limit():
                    raise ManifestError(
                        f"video {record.video_id}: column {name} is too long for CSV "
                        f"({len(cell)} characters): write the manifest as .parquet"
                    )
            writer.writerow(cells.values())


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(f"{r['start']}..{r['stop']}" for r in value) or NORMAL
    return "" if value is None else str(value)


def _read_csv(path: Path) -> tuple[str, str, list[dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a BOM
            lines = [line for line in csv.reader(file) if any(line)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read as CSV in UTF-8: {error}") from error
    head: dict[str, str] = {}
    while lines and lines[0][0] in ("#dataset", "#root"):
        name, *values = lines.pop(0)
        head[name] = values[0] if values else ""
    if "#dataset" not in head or not lines:
        raise ManifestError(
            f"{path} must start with the rows '#dataset,NAME', '#root,FOLDER' and the header, "
            "separated by commas"
        )
    columns = _trimmed(lines[0], 1)
    _check_columns(path, columns)
    rows = []
    for number, line in enumerate(lines[1:], start=1):
        cells = _trimmed(line, len(columns))
        if len(cells) != len(columns):
            raise ManifestError(
                f"{path}, row {number}: has {len(cells)} cells, the header has {len(columns)}"
            )
        row = {}
        for name, text in zip(columns, cells, strict=True):
            try:
                row[name] = _value(name, text)
            except ValueError as error:
                raise ManifestError(f"{path}, row {number}, column {name}: {error}") from error
        rows.append(row)
    return head["#dataset"], head.get("#root", ""), rows


def _trimmed(cells: list[str], least: int) -> list[str]:
    """Drop the empty cells that spreadsheets add at the end of a row, but keep `least` cells."""
    while len(cells) > least and not cells[-1]:
        cells = cells[:-1]
    return cells


def _value(name: str, text: str) -> Any:
    if not text:
        if not SCHEMA.field(name).nullable:
            raise ValueError("is empty")
        return None
    return PARSERS[SCHEMA.field(name).type](text)


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError(f"{text!r:.200} is not a whole number")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r:.200} is not a number") from None


def _ranges(text: str) -> list[dict[str, int]]:
    if text == NORMAL:
        return []
    ranges = []
    for word in text.split():
        match = re.fullmatch(r"([0-9]{1,18})\.\.([0-9]{1,18})", word)
        if match is None:
            raise ValueError(
                f"{word!r:.200} is not a frame range: write START..STOP (from 0, STOP not in it), "
                f"several with blanks between them, or {NORMAL!r}"
            )
        ranges.append({"start": int(match[1]), "stop": int(match[2])})
    return ranges


PARSERS: dict[pa.DataType, Callable[[str], Any]] = {
    pa.string(): str,
    pa.int8(): _integer,
    pa.int64(): _integer,
    pa.float64(): _number,
    SCHEMA.field("anomalies").type: _ranges,
}
