"""What the doctor says of machines that lack something."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from vadpipe.pipeline import doctor
from vadpipe.pipeline.cli.doctor import doctor as command
from vadpipe.pipeline.doctor import Finding, examine

GIB = 1 << 30


def of(check: str, cache: Path) -> list[Finding]:
    return [each for each in examine(cache) if each.check == check]


def test_every_check_says_something_and_nothing_is_left(tmp_path: Path) -> None:
    found = examine(tmp_path / "cache")
    assert {each.check for each in found} == {
        *("python", "packages", "opencv", "codecs", "processor", "gpu", "memory", "cache"),
        *("temporary files", "weights"),
    }
    assert [e for e in found if e.check in ("packages", "opencv") and e.state != "ok"] == []
    assert all(each.advice for each in found if each.state != "ok")
    assert list(tmp_path.iterdir()) == []


def without(names: set[str]) -> Callable[[str], str]:
    def version(name: str) -> str:
        if name in names:
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    return version


def test_packages_that_are_missing_or_too_old_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"vadpipe": "0.1", "h5py": "3.1", "av": "19.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    needs = ["h5py>=3", "av>=14,<20", "torch>=2.6", 'mkdocs>=1; extra == "docs"']
    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: needs)
    there, missing = of("packages", tmp_path)
    assert there.said == "vadpipe 0.1, h5py 3.1, av 19.0"
    assert (missing.state, missing.said) == ("problem", "torch is missing")
    versions |= {"torch": "2.5", "av": "20.0"}
    _, old = of("packages", tmp_path)
    assert old.said == "av 20.0 is not <20,>=14; torch 2.5 is not >=2.6"


def test_two_packages_of_opencv_are_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.metadata, "version", without({"opencv-python"}))
    (found,) = of("opencv", tmp_path)
    assert found.state == "problem"
    assert "opencv-contrib-python " in found.said


def test_opencv_without_contrib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.metadata, "version", without(set(doctor.OPENCV[:3])))
    monkeypatch.setitem(__import__("sys").modules, "cv2", SimpleNamespace(__version__="4.0"))
    (found,) = of("opencv", tmp_path)
    assert (found.state, "TV-L1" in found.said) == ("warning", True)


def test_missing_codecs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CODECS", ("h264", "no_such_codec"))
    there, missing = of("codecs", tmp_path)
    assert there.said.startswith("h264 (")
    assert (missing.state, missing.said) == ("warning", "no decoder of no_such_codec")


@pytest.mark.parametrize(("left", "state"), [(GIB, "warning"), (8 * GIB, "ok"), (None, "warning")])
def test_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int | None, state: str
) -> None:
    monkeypatch.setattr(doctor, "available_bytes", lambda: left)
    (found,) = of("memory", tmp_path)
    assert found.state == state


@pytest.mark.parametrize(("free", "state"), [(GIB, "warning"), (100 * GIB, "ok")])
def test_room_on_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert of("cache", tmp_path)[0].state == state
    assert of("temporary files", tmp_path)[0].state == state


def test_a_cache_that_cannot_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    assert of("cache", file / "cache")[0].state == "problem"
    assert of("cache", file)[0].state == "problem"
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    (closed,) = of("cache", tmp_path)
    assert (closed.state, "may not be written to" in closed.said) == ("problem", True)


def test_a_file_server_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(doctor.fcntl, "flock", refuse)
    there, locks = of("cache", tmp_path)
    assert there.said.startswith(str(tmp_path))
    assert (locks.state, "No locks available" in locks.said) == ("warning", True)


def test_damaged_weights_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [SimpleNamespace(name="a", state="broken"), SimpleNamespace(name="b", state="missing")]
    monkeypatch.setattr(doctor, "ls", lambda *_: rows)
    few, broken = of("weights", tmp_path)
    assert (few.state, few.said.split(",")[0]) == (
        "warning",
        "0 of 2 cards are here; 1 are not fetched",
    )
    assert (broken.state, broken.said) == ("problem", "a is damaged")


def test_a_check_that_cannot_be_made_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise RuntimeError("no driver")

    monkeypatch.setattr(doctor, "cuda_count", fail)
    (found,) = of("gpu", tmp_path)
    assert (found.state, found.said) == ("problem", "RuntimeError: no driver")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = [Finding("memory", "ok", "much"), Finding("cache", "warning", "full", "empty it")]
    for found, code in ((fine, 0), ([*fine, Finding("gpu", "problem", "gone", "buy")], 1)):
        monkeypatch.setattr(doctor, "examine", lambda _, found=found: found)
        done = CliRunner().invoke(command, ["--cache", str(tmp_path)])
        assert done.exit_code == code
        assert "-> empty it" in done.output
        assert f"{code} problem{'' if code else 's'}, 1 warning\n" in done.output
        values = json.loads(CliRunner().invoke(command, ["--json"]).output)
        assert [each["state"] for each in values["findings"]] == [each.state for each in found]
