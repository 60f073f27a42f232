"""How much memory is left, by what the system says."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from vadpipe.data_manifests import memory
from vadpipe.data_manifests.memory import (
    OutOfMemory,
    available_bytes,
    check_memory,
    total_bytes,
)

FREE = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 MiB with 6 left, without control groups and limits."""
    (tmp_path / "meminfo").write_text("MemTotal:  8192 kB\nMemAvailable:  6144 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    groups = [(tmp_path / str(i), *names) for i, (_, *names) in enumerate(memory.GROUPS)]
    monkeypatch.setattr(memory, "GROUPS", groups)
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: FREE)
    return tmp_path


def test_the_machine_says_it() -> None:
    assert (available_bytes(), total_bytes()) == (6 << 20, 8 << 20)
    check_memory(6 << 20, "a.npz", "take another")
    with pytest.raises(OutOfMemory, match=r"^a\.npz needs 6,291,457 bytes.*6,291,456 are left: t"):
        check_memory((6 << 20) + 1, "a.npz", "take another")


@pytest.mark.parametrize("group", [0, 1])
def test_a_control_group_allows_less(system: Path, group: int) -> None:
    folder, _, most, used, spare = memory.GROUPS[group]
    folder.mkdir()
    (folder / most).write_text(f"{4 << 20}\n")
    (folder / used).write_text(f"{3 << 20}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{spare} {1 << 20}\n")
    assert (available_bytes(), total_bytes()) == (2 << 20, 4 << 20)
    (folder / most).write_text("max\n")
    assert total_bytes() == 8 << 20


@pytest.mark.parametrize("limited", ["job/step", "job", ""])
@pytest.mark.parametrize("group", [0, 1])
def test_the_group_of_a_job_and_those_above_it_allow_less(
    system: Path, group: int, limited: str
) -> None:
    root, controller, most, used, _ = memory.GROUPS[group]
    number, path = ("0", "/job/step") if group == 0 else ("7", "/job/step:1")
    step = root / path[1:]
    step.mkdir(parents=True)
    (system / "cgroup").write_text(f"3:cpu,cpuacct:/elsewhere\nbad\n{number}:{controller}:{path}\n")
    others = {step, step.parent, root}
    for folder in others:
        (folder / most).write_text("max\n" if group == 0 else f"{1 << 62}\n")
        (folder / used).write_text(f"{1 << 20}\n")
    assert (available_bytes(), total_bytes()) == (6 << 20, 8 << 20)
    folder = step if limited == "job/step" else root / limited
    (folder / most).write_text(f"{3 << 20}\n")
    assert (available_bytes(), total_bytes()) == (2 << 20, 3 << 20)


def test_a_group_outside_of_what_is_shown_is_not_followed(system: Path) -> None:
    root, _, most, used, _ = memory.GROUPS[0]
    root.mkdir()
    (system / most).write_text("1\n")
    (system / used).write_text("0\n")
    (system / "cgroup").write_text("0::/../x\n0::/..\n")
    assert total_bytes() == 8 << 20


def test_a_limit_of_the_process_allows_less(monkeypatch: pytest.MonkeyPatch) -> None:
    used = int(memory.STATM.read_text().split()[0]) * resource.getpagesize()

    def limits(kind: int) -> tuple[int, int]:
        return (used + (1 << 20), -1) if kind == resource.RLIMIT_AS else FREE

    monkeypatch.setattr(resource, "getrlimit", limits)
    assert (left := available_bytes()) is not None and left <= 1 << 20


def test_a_system_that_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    assert available_bytes() is total_bytes() is None
    check_memory(1 << 60, "a", "b")
