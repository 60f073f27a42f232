"""Damage to files: to their bytes, and to what stands in them."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NASTY: list[Any] = [
    None, True, 0, -1, 1 << 31, 1 << 62, 10**40, 0.5, float("nan"), float("inf"), "", "x",
    "../../../escape", "/etc/passwd", "a\0b", "\x1b[31m[/bold]", "ä" * 300, "9" * 5000, [], {},
    [1, "x"], {"x": {"y": []}}, [[[[[]]]]], "2020-01-01", "NaN", "s1-../../x",
]  # fmt: skip


def bytes_of(good: bytes, draw: random.Random) -> bytes:
    """Damage that needs no knowledge of the format."""
    data = bytearray(good)
    match draw.randrange(8):
        case 0:
            return bytes(data[: draw.randrange(len(data))])
        case 1:
            return b""
        case 2:
            return bytes(draw.randrange(256) for _ in range(draw.randrange(200)))
        case 3:
            return b"\0" * draw.randrange(1, 300)
        case 4:
            return good.decode("latin-1").encode("utf-16")
        case 5:
            at = draw.randrange(len(data))
            return bytes(data[:at]) + b"[" * 100_000 + bytes(data[at:])
        case _:
            for _ in range(draw.randrange(1, 8)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            return bytes(data)


def json_of(good: bytes, draw: random.Random) -> bytes:
    """Another value somewhere in the tree, or one less."""
    values = json.loads(good)
    places = list(_places(values))
    parent, key = draw.choice(places)
    if draw.random() < 0.25 and isinstance(parent, dict):
        del parent[key]
    else:
        parent[key] = draw.choice(NASTY)
    return json.dumps(values).encode()


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    inner = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in inner:
        yield values, key
        if isinstance(value, dict | list) and value:
            yield from _places(value)


def text_of(good: bytes, draw: random.Random) -> bytes:
    """One cell of a table, or one value of TOML, is another."""
    lines = good.decode().splitlines()
    at = draw.randrange(len(lines))
    cells = lines[at].split("," if "," in lines[at] else "=")
    value = draw.choice(NASTY)
    toml = json.dumps(value) if value is not None else "nan"
    cells[draw.randrange(len(cells))] = toml if "=" in lines[at] else str(value)
    lines[at] = ("," if "," in lines[at] else "=").join(cells)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def parquet_of(good: bytes, draw: random.Random) -> bytes:
    """One column has another value in a row, another type, nulls, or is gone."""
    table = pq.ParquetFile(io.BytesIO(good)).read()
    name = draw.choice(table.column_names)
    at, kind = table.column_names.index(name), table.schema.field(name).type
    value = draw.choice([value for value in NASTY if value != {}])  # no column of Parquet
    if draw.random() < 0.15:
        table = table.drop_columns([name])
    else:
        values = [value, *table[name].to_pylist()[1:]] if len(table) else []
        try:
            column = pa.array(values, kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            try:
                column = pa.array([value] * len(table))
            except (pa.ArrowException, ValueError, TypeError, OverflowError):
                column = pa.nulls(len(table), kind)
        table = table.set_column(at, name, column)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def safetensors_of(good: bytes, draw: random.Random) -> bytes:
    """Another value in the header."""
    (size,) = struct.unpack("<Q", good[:8])
    header = json_of(good[8 : 8 + size], draw)
    return struct.pack("<Q", len(header)) + header + good[8 + size :]


def hdf5_of(good: bytes, draw: random.Random, scratch: Path) -> bytes:
    """One attribute or data set is another, a link, or is gone."""
    path = scratch / "damaged.h5"
    path.write_bytes(good)
    with h5py.File(path, "r+") as file:
        datasets: list[str] = []
        file.visit(lambda name: datasets.append(name))
        value = draw.choice(NASTY)
        if draw.random() < 0.5:
            owner = file[draw.choice(["/", *datasets])]
            if not len(owner.attrs):
                owner = file
            name = draw.choice(list(owner.attrs))
            if draw.random() < 0.2:
                del owner.attrs[name]
            else:
                owner.attrs[name] = _storable(value)
        else:
            name = draw.choice(datasets)
            del file[name]
            match draw.randrange(6):
                case 0:
                    file[name] = h5py.ExternalLink("/etc/hostname", "/x")
                case 1:
                    file[name] = h5py.SoftLink("/")
                case 2:
                    file.create_dataset(name, (1 << 34, 8), "f4", chunks=(1024, 8))
                case 3:
                    file[name] = np.array([b"x" * 4] * 2)
                case 4:
                    file[name] = np.full((2, 3), -5)
                case _:
                    file[name] = np.full(2, np.nan)
    return path.read_bytes()


def npy_of(good: bytes, draw: random.Random) -> bytes:
    """Another array: its type, its shape, its values, or a header that lies."""
    values = np.load(io.BytesIO(good))
    if draw.random() < 0.4:
        (size,) = struct.unpack("<H", good[8:10])
        head = good[10 : 10 + size].decode("latin-1")
        old, new = draw.choice(
            [
                ("False", "True"),
                ("(", "(99999999999, "),
                ("(", "(-"),
                ("'<", "'>"),
                ("'descr'", "'x'"),
                ("'<", "'|O"),
                ("{", "{{" * 40),
                ("(", "(" + "9" * 30),
            ]
        )
        changed = head.replace(old, new, 1).rstrip()[: size - 1].ljust(size - 1) + "\n"
        return good[:10] + changed.encode("latin-1") + good[10 + size :]
    others: list[Any] = [
        values.astype("U5"), values.astype(bool), values[:0], values[None], values.reshape(-1),
        np.full(values.shape, np.nan), np.full(values.shape, np.inf), np.full(values.shape, -1),
        values.astype(">f8"), np.array(5), values + 0.5, values.astype("M8[s]"), values + 1j,
        np.full(values.shape, 1e300), np.zeros((0, 3)), np.zeros((2, 0)),
    ]  # fmt: skip
    sink = io.BytesIO()
    np.save(sink, draw.choice(others))
    return sink.getvalue()


def npz_of(good: bytes, draw: random.Random) -> bytes:
    """One member is another array, has another name, or is gone."""
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw.choice(sorted(members))
    content = members.pop(name)
    match draw.randrange(4):
        case 0:
            if content[6:8] == b"\x01\0" and b"<U" not in content[:128]:
                members[name] = npy_of(content, draw)
        case 1:
            members[name] = bytes_of(content, draw)
        case 2:
            other = draw.choice(["../../escape.npy", "/escape.npy", "x", "ä" * 90 + ".npy"])
            members[other] = content
        case _:
            pass
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for each, data in members.items():
            archive.writestr(each, data)
    return sink.getvalue()


def mat_of(good: bytes, draw: random.Random) -> bytes:
    """Other matrices under the names that are read."""
    from scipy.io import savemat

    values = draw.choice(
        [
            np.full((3, 2), np.nan), np.full((3, 2), np.inf), np.full((3, 2), 1e300), np.eye(3),
            np.zeros((0, 0)), np.full((3, 2), -5), "text", {"a": 1}, np.ones((2, 2, 2)), 1j,
            np.array([np.array([[np.inf], [1]]), np.eye(2), "x"], dtype=object),
        ]
    )  # fmt: skip
    sink = io.BytesIO()
    savemat(sink, {"gt": values, "volLabel": values}, do_compression=draw.random() < 0.5)
    return sink.getvalue()


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")[:4000]
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    return np.array([1, 0])


def damaged(good: bytes, form: str, seed: int, scratch: Path) -> bytes:
    """Damage a file of a form; the same seed does the same."""
    draw = random.Random(seed)
    if draw.random() < 0.35:
        return bytes_of(good, draw)
    if form == "json":
        return json_of(good, draw)
    if form in ("toml", "csv", "text"):
        return text_of(good, draw)
    if form == "parquet":
        return parquet_of(good, draw)
    if form == "hdf5":
        return hdf5_of(good, draw, scratch)
    others = {"safetensors": safetensors_of, "npy": npy_of, "npz": npz_of, "mat": mat_of}
    return others.get(form, bytes_of)(good, draw)
