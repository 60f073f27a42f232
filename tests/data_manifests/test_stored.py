"""Every way in which JSON, TOML and Parquet can be damaged is one error that names the file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vadpipe.data_manifests import stored
from vadpipe.data_manifests.stored import (
    DamagedFile,
    leave_out,
    parse_json,
    read_json,
    read_parquet,
    read_toml,
)

DAMAGE = {
    "empty": b"",
    "cut": b'{"a": [1,',
    "another encoding": '{"a": "ä"}'.encode("latin-1"),
    "bytes": b"\xff\xfe\x00",
    "NUL": b"\x00" * 50,
    "deep": b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}",
    "deeper than any stack": b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "digits": b'{"a": ' + b"9" * 5000 + b"}",
    "half a character": b'{"a": "\\ud800"}',
    "no object": b"[1, 2]",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_json(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(damage)
    with pytest.raises(DamagedFile, match=r"a\.json is damaged \(") as error:
        read_json(path)
    assert len(str(error.value)) < 500


def test_good_json_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"ä": [1, 2.5, null, "\\ud83d\\ude00"]}', encoding="utf-8")
    assert read_json(path) == {"ä": [1, 2.5, None, "😀"]}


@pytest.mark.parametrize(
    "damage", [b"x=" + b"[" * 20000, b"x=" + b"[" * 300 + b"]" * 300, b"\xff", b"x=1979-13-40"]
)
def test_damaged_toml(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(damage)
    with pytest.raises(DamagedFile, match=r"a\.toml is damaged"):
        read_toml(path)
    path.write_text("day = 2020-01-01\n[a]\nb = 1")
    assert read_toml(path)["a"] == {"b": 1}


def test_marks_of_windows_editors_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n')
    assert read_json(path) == {"a": 1}
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    assert read_toml(path) == {"a": 1, "b": 2}


def test_json_inside_of_another_file() -> None:
    assert parse_json(b'{"a": 1}', "x") == {"a": 1}
    for text in (b"{", b"\xff", "[" * 100_000):
        with pytest.raises(DamagedFile, match="the metadata of x is damaged"):
            parse_json(text, "the metadata of x")


@pytest.mark.parametrize("read", [read_json, read_toml, read_parquet])
def test_what_is_no_file_is_refused_and_what_is_not_there_is_not_damaged(
    tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(DamagedFile, match="is not a file"):
            read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "gone")


SCHEMA = pa.schema([("name", pa.string()), ("n", pa.int64())])


def table(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_with_the_wrong_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    good = table(path, n=pa.array([1], pa.int32()), name=["x"], more=[0.5])
    assert read_parquet(good, SCHEMA) == pa.table({"name": ["x"], "n": [1]}, SCHEMA)
    assert read_parquet(good).column_names == ["n", "name", "more"]
    for columns in (
        {"name": ["x"]},
        {"name": ["x"], "n": ["one"]},
        {"name": ["x"], "n": [float("nan")]},
        {"name": ["x"], "n": pa.array([1 << 63], pa.uint64())},
        {"name": [["x"]], "n": [1]},
        {"name": pa.array([b"\xff"], pa.binary()), "n": [1]},
    ):
        with pytest.raises(DamagedFile, match=r"a\.parquet is damaged"):
            read_parquet(table(path, **columns), SCHEMA)


def test_parquet_with_the_wrong_bytes(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", name=["x"] * 9, n=list(range(9)))
    good = path.read_bytes()
    for damage in (b"", b"PAR1", b"PAR1 nothing PAR1", good[:-9], good[: len(good) // 2]):
        path.write_bytes(damage)
        with pytest.raises(DamagedFile, match=r"a\.parquet is damaged"):
            read_parquet(path, SCHEMA)


def test_parquet_that_claims_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MOST_ROWS", 8)
    with pytest.raises(DamagedFile, match="it claims 9 rows"):
        read_parquet(table(tmp_path / "a.parquet", name=["x"] * 9, n=[0] * 9))


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    pq.write_table(pa.table([["x"], ["y"]], names=["n", "n"]), tmp_path / "a.parquet")
    with pytest.raises(DamagedFile, match="several columns have one name"):
        read_parquet(tmp_path / "a.parquet")


def test_what_is_left_out_is_named_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            leave_out(tmp_path / "\x1b.json", ValueError("no number"), "delete it")
        leave_out(tmp_path / "\x1b.json", ValueError("no text"), "delete it")
    assert [record.getMessage() for record in caplog.records] == [
        f"left out: {tmp_path}/\\x1b.json is damaged ({why}); delete it"
        for why in ("no number", "no text")
    ]
