"""Atomic writes: whole files or none, full disks, temporary files of killed processes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vadpipe.data_manifests.atomic import (
    STALE_SECONDS,
    CannotWrite,
    remove_stale,
    write_atomically,
    write_table,
    write_text,
)
from vadpipe.data_manifests.errors import VadpipeError


def fail_with(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> None:
        raise error

    return fail


UNWRITABLE = ["ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EACCES", "EPERM"]


def hdf5_error(number: int) -> str:
    """What the library says of a write that went wrong."""
    return (
        "Can't synchronously write data (file write failed: time = Wed Nov 25 14:00:00 2026\n, "
        f"filename = 'a.h5', file descriptor = 7, errno = {number}, error message = "
        f"'{os.strerror(number)}', buf = 0x1, total write size = 4096)"
    )


@pytest.mark.parametrize("name", UNWRITABLE)
@pytest.mark.parametrize(
    "error",
    [
        lambda number: OSError(number, os.strerror(number)),
        lambda number: RuntimeError(hdf5_error(number)),
        lambda number: OSError(hdf5_error(number)),
    ],
    ids=["OSError", "RuntimeError", "OSError of HDF5"],
)
def test_what_no_repetition_cures_says_what_to_do(
    tmp_path: Path, name: str, error: Callable[[int], Exception]
) -> None:
    number = getattr(errno, name)
    cause = error(number)
    with pytest.raises(CannotWrite) as caught:
        write_atomically(tmp_path / "a.h5", fail_with(cause))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'a.h5'} cannot be written: {os.strerror(number)}.")
    assert "run the same command again" in message
    assert caught.value.__cause__ is cause
    assert not list(tmp_path.iterdir())


def test_file_too_large_is_27(tmp_path: Path) -> None:
    """As HDF5 prints it on Linux."""
    error = RuntimeError("Can't write data (file write failed: errno = 27, error message = '')")
    with pytest.raises(CannotWrite, match="File too large"):
        write_atomically(tmp_path / "a.h5", fail_with(error))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        OSError("no number"),
        RuntimeError("unable to create dataset"),
        RuntimeError(hdf5_error(errno.EIO)),
        ValueError("errno = 28"),
        VadpipeError("arrays do not match the checksum"),
    ],
    ids=repr,
)
def test_other_errors_pass_unchanged(tmp_path: Path, error: Exception) -> None:
    """What may pass has to stay recognisable."""
    path = tmp_path / "a.h5"
    path.write_text("before")
    with pytest.raises(type(error)) as caught:
        write_atomically(path, fail_with(error))
    assert caught.value is error
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]


def test_the_command_line_knows_the_error() -> None:
    assert issubclass(CannotWrite, VadpipeError)


def test_a_table_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "a.parquet"
    table = pa.table({"x": list(range(1000))})
    write_table(path, table, compression="zstd", row_group_size=100)
    file = pq.ParquetFile(path)
    assert file.read() == table
    assert file.metadata.num_row_groups == 10
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_with(OSError(errno.EROFS, "Read-only file system")))
        with pytest.raises(CannotWrite, match=r"a\.parquet cannot be written: Read-only"):
            write_table(path, table.slice(0, 1))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["a.parquet"]


def test_data_then_name_then_folder_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    path = tmp_path / "new" / "a.txt"
    real = os.fsync

    def fsync(handle: int) -> None:
        place = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append((place.suffix or "folder", path.exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "caf\u00e9")
    assert path.read_bytes() == "caf\u00e9".encode()
    assert synced == [(".tmp", False), ("folder", True), ("folder", True)]  # that of the new one


def test_new_folders_are_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a" / "b" / "x.json", "{}")
    assert synced[1:] == ["b", "a", tmp_path.name], "the entry of a new folder is in the one above"
    synced.clear()
    write_text(tmp_path / "a" / "b" / "y.json", "{}")
    assert synced[1:] == ["b"]


def test_the_first_write_to_any_folder_removes_what_killed_processes_left(tmp_path: Path) -> None:
    old = tmp_path / ".x.json.a-host.b-1-0123abcd.tmp"
    foreign = [tmp_path / name for name in (".x.tmp", ".editor.json.tmp", ".x.host-1-abcd.tmp")]
    for path in (old, *foreign):
        path.write_text("half")
        age = path.stat().st_mtime - STALE_SECONDS - 1
        os.utime(path, (age, age))
    write_text(tmp_path / "y.json", "{}")
    left = [*(path.name for path in foreign), "y.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(left), "others have files too"


def test_only_old_temporary_files_are_removed(tmp_path: Path) -> None:
    left: list[Path] = []
    write_atomically(tmp_path / "a.json", lambda p: left.append(p) or p.write_text("{}"))
    old, new = left[0], tmp_path / left[0].name.replace("a.json", "b.json")
    for path in (old, new):
        path.write_text("half")
    age = old.stat().st_mtime - STALE_SECONDS - 1
    os.utime(old, (age, age))
    remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([new.name, "a.json"])
