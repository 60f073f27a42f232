"""Stamps: equal while nothing is written, different after whatever was done to a file."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vadpipe.extractors.footage import stamp as stamp_module
from vadpipe.extractors.footage.errors import MissingFile, TouchedFile
from vadpipe.extractors.footage.stamp import (
    check_stamp,
    regular_file,
    same_file,
    same_size,
    stamp_of,
    wait_for_clock,
)

Change = Callable[[Path], object]
OLD = (10**18, 10**18)  # atime and mtime in ns


def in_place(path: Path) -> None:
    """Other bytes, as many, and the old time: as a recorder fills a file of fixed size."""
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=OLD)


def replaced(path: Path) -> None:
    """Another file of the same size and time moves to the place."""
    other = path.with_name("other")
    other.write_bytes(b"x" * path.stat().st_size)
    os.utime(other, ns=OLD)
    other.replace(path)


def moved_away_and_back(path: Path) -> None:
    path.rename(path.with_name("away"))
    path.with_name("away").rename(path)


CHANGES: dict[str, Change] = {
    "in place": in_place,
    "replaced": replaced,
    "moved away and back": moved_away_and_back,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "shorter": lambda path: os.truncate(path, 1),
    "touched": lambda path: path.touch(),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"0123456789")
    os.utime(path, ns=OLD)
    wait_for_clock([path.stat()])
    return path


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_is_done_to_a_file_changes_its_stamp(file: Path, change: Change) -> None:
    before = stamp_of(file)
    assert stamp_of(file) == before
    check_stamp(file, before)
    change(file)
    assert stamp_of(file) != before
    with pytest.raises(TouchedFile, match="changed since it was probed"):
        check_stamp(file, before)
    check_stamp(file, "")  # nothing to compare with


def add(folder: Path) -> None:
    (folder / "3.png").write_bytes(b"3")


def reorder(folder: Path) -> None:
    """Two frames change places; all sizes and times stay."""
    (folder / "0.png").rename(folder / "x")
    (folder / "1.png").rename(folder / "0.png")
    (folder / "x").rename(folder / "1.png")


@pytest.mark.parametrize(
    "change",
    [
        add,
        reorder,
        lambda folder: in_place(folder / "1.png"),
        lambda folder: (folder / "2.png").unlink(),
        lambda folder: (folder / "2.png").rename(folder / "22.png"),
    ],
)
def test_whatever_is_done_to_a_folder_of_images_changes_its_stamp(
    tmp_path: Path, change: Change
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"abc%d" % number)
        os.utime(tmp_path / f"{number}.png", ns=OLD)
    wait_for_clock([path.stat() for path in tmp_path.iterdir()])
    before = stamp_of(tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    assert stamp_of(tmp_path) == before
    change(tmp_path)
    assert stamp_of(tmp_path) != before


def test_sizes_are_compared_without_reading(file: Path) -> None:
    before = stamp_of(file)
    in_place(file)
    assert same_size(before, stamp_of(file))
    file.write_bytes(b"1")
    assert not same_size(before, stamp_of(file))


def test_what_another_library_opens_is_the_file_with_the_stamp(file: Path) -> None:
    stamp = stamp_of(file)
    with same_file(file, stamp):
        pass
    with pytest.raises(TouchedFile), same_file(file, stamp):
        moved_away_and_back(file)  # while the library opens the name
    with pytest.raises(TouchedFile), same_file(file, stamp):
        raise AssertionError("it has another stamp, so nothing is opened")
    with same_file(file.with_name("nowhere"), ""):
        pass  # nothing to compare with


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.mp4")
    with pytest.raises(MissingFile), regular_file(tmp_path / "x.mp4"):
        raise AssertionError("a pipe was opened")
    with pytest.raises(MissingFile), same_file(tmp_path / "x.mp4", "1:2:3:4"):
        raise AssertionError("a pipe was opened")


def test_a_file_that_is_gone_is_named_and_a_server_that_blinks_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingFile, match=r"gone\.mp4"):
        stamp_of(tmp_path / "gone.mp4")

    def stale(*_: object, **__: object) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(Path, "stat", stale)
    with pytest.raises(OSError, match="Stale"):
        stamp_of(tmp_path / "a.mp4")


def test_a_file_that_was_just_written_is_waited_for(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a later write has another time; seconds where the file system counts seconds."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(stamp_module.time, "time", lambda: 1000.005)

    def stat(mtime: float) -> os.stat_result:
        values = list(file.stat())
        return os.stat_result([*values[:10], *(mtime,) * 3, *(int(mtime * 1e9),) * 3])

    for mtime in (900.5, 1000.001, 999.0, 1200.5):
        wait_for_clock([stat(mtime)])
    assert slept == pytest.approx([0.0, 0.016, 0.995, 0.0])


def test_a_copy_has_a_stamp_of_its_own(file: Path) -> None:
    shutil.copy2(file, file.with_name("b.mp4"))
    assert stamp_of(file) != stamp_of(file.with_name("b.mp4"))
