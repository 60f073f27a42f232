"""Whoever writes to a feature set and whoever deletes it never do so at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.locks import deleting, lock_file, writing


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    os.mkfifo(tmp_path / "locks" / "a")
    root = tmp_path / "features" / "a"
    with writing([root]), pytest.raises(StoreError, match="a run is writing"), deleting(root):
        pass


def test_what_is_no_file_at_the_name_of_a_lock_is_replaced(tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    (locks / "folder" / "deeper").mkdir(parents=True)
    (locks / "link").symlink_to(tmp_path)
    (locks / "circle").symlink_to(locks / "circle")
    (locks / "broken").symlink_to(tmp_path / "none" / "none")
    for name in ("folder", "link", "circle", "broken"):
        root = tmp_path / "features" / name
        with writing([root]), pytest.raises(StoreError, match="a run is writing"), deleting(root):
            pass
        assert (locks / name).is_file() and not (locks / name).is_symlink()
    assert tmp_path.is_dir()


def test_a_folder_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(OSError, match="symbolic links"):
        lock_file(tmp_path / "circle" / "a")


def test_several_may_write_and_one_may_delete(tmp_path: Path) -> None:
    a, b = (tmp_path / "features" / name for name in "ab")
    busy = pytest.raises(StoreError, match="a run is writing to b")
    with writing([a, b]), writing([b]), busy, deleting(b):
        pass
    with deleting(b):
        with writing([a]):
            pass
        for other in (writing([a, b]), deleting(b)):
            with pytest.raises(StoreError, match="b"), other:
                pass
    with writing([a, b]):
        pass
    assert not (tmp_path / "features").exists(), "the locks lie outside of what is deleted"
