"""Semaphores and scratch folders of killed runs go; those of living ones and of others stay."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vadpipe.data_manifests import leftovers
from vadpipe.data_manifests.leftovers import own_prefix, remove_leftovers

pytestmark = pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="Linux only")


def test_only_what_dead_processes_have_left_is_deleted(tmp_path: Path) -> None:
    own = own_prefix()
    space, pid, began = own.split("-")[1:4]
    assert int(pid) == os.getpid()
    again = f"vadpipe-{space}-{pid}-{int(began) + 1}-"  # the number of a dead one, used again
    gone = f"vadpipe-{space}-{1 << 30}-{began}-"
    elsewhere = f"vadpipe-{int(space, 16) + 1:x}-{1 << 30}-{began}-"  # another machine or container
    left = [f"{own}x", f"sem.{own}x", f"{elsewhere}x", "vadpipe-old", "sem.mp-abc", f"my-{gone}x"]
    for name in (*left, f"sem.{again}x", f"sem.{gone}x"):
        (tmp_path / name).touch()
    (tmp_path / f"{gone}scratch").mkdir()
    (tmp_path / f"{gone}scratch" / "part").touch()
    remove_leftovers([tmp_path])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(left)


def test_files_of_other_users_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = own_prefix().split("-")[1]
    (tmp_path / f"sem.vadpipe-{space}-{1 << 30}-5-x").touch()
    monkeypatch.setattr(os, "getuid", lambda: 1 << 20)
    remove_leftovers([tmp_path, tmp_path / "none"])
    assert len(list(tmp_path.iterdir())) == 1


def test_what_the_system_does_not_say_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_prefix()
    (tmp_path / f"{own}x").touch()

    def busy(self: Path, *_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(leftovers, "_space", lambda: own.split("-")[1])
    monkeypatch.setattr(Path, "read_text", busy)
    remove_leftovers([tmp_path])
    assert len(list(tmp_path.iterdir())) == 1


def test_semaphores_of_workers_say_whose_they_are() -> None:
    """In a process of its own: joblib, once imported, gives them names of its own."""
    script = (
        "import multiprocessing, pathlib\n"
        "from vadpipe.data_manifests.leftovers import name_semaphores, own_prefix, SHARED_MEMORY\n"
        "name_semaphores()\n"
        "lock = multiprocessing.get_context('spawn').Lock()\n"
        "name = lock._semlock.name\n"
        "assert name.startswith('/' + own_prefix()), name\n"
        "assert (SHARED_MEMORY / ('sem.' + name[1:])).exists()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
