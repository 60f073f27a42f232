"""The files of a run: what a node notes is checked before anything is made of it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vadpipe.pipeline.run.folder import Done, RunFolder, environment


def test_what_is_written_is_read(tmp_path: Path) -> None:
    done = Done("key", ("line",), (), {"model": "knn-1", "row": {"name": "x"}, "seconds": 1.0})
    folder = RunFolder(tmp_path)
    assert folder.done("n") is None
    folder.write_done("n", done)
    assert folder.done("n") == done
    folder.forget(["n"])
    assert folder.done("n") is None


@pytest.mark.parametrize(
    "facts",
    [
        {"model": "../../elsewhere"},
        {"model": "/etc"},
        {"model": None},
        {"model": ["knn-1"]},
        {"row": [1]},
        {"metrics": 3},
        ["model"],
        "model",
    ],
)
def test_a_node_whose_facts_were_changed_runs_again(tmp_path: Path, facts: Any) -> None:
    folder = RunFolder(tmp_path)
    folder.write_done("n", Done("key", (), (), {"model": "knn-1"}))
    path = tmp_path / "nodes" / "n.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "facts": facts}))
    assert folder.done("n") is None


def test_the_configuration_of_a_folder_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`git status` asks programs that the folder names; a folder may come from anywhere."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def git(*words: str) -> None:
        person = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *person, *words], check=True, capture_output=True)

    def program(path: Path) -> str:
        path.write_text('#!/bin/sh\ntouch "$0.ran"\ncat\n')
        path.chmod(0o755)
        return str(path)

    filters = ["own", "x=y", "a\u00a0b"]
    git("init")
    for number, name in enumerate(filters):
        (folder / f"{number}.toml").write_text("out = 1")
        with (folder / ".gitattributes").open("a") as file:
            file.write(f"{number}.toml filter={name}\n")
    git("add", "-A")
    git("commit", "-m", "first")
    state = environment()["git"]
    assert state["changed"] is False and len(state["commit"]) == 40

    git("config", "core.fsmonitor", program(tmp_path / "monitor"))
    for number, name in enumerate(filters):
        git("config", f"filter.{name}.clean", program(tmp_path / f"filter{number}"))
        git("config", f"filter.{name}.required", "true")
        (folder / f"{number}.toml").write_text("out = 2")
    for name in ("smudge", "process"):
        git("config", f"filter.own.{name}", program(tmp_path / name))
    program(folder / ".git" / "hooks" / "post-index-change")
    os.utime(folder / ".gitattributes", (1, 1))  # an index that is written again runs the hook
    assert environment()["git"] == {**state, "changed": True}
    assert not list(tmp_path.rglob("*.ran"))

    git("config", "extensions.partialClone", "elsewhere")  # would be fetched from
    assert environment()["git"] == {**state, "changed": None}
    assert not list(tmp_path.rglob("*.ran"))

    git("config", "--unset", "extensions.partialClone")
    git("config", "--unset", "filter.own.process")  # the others are asked where there is none
    subprocess.run(["git", "status"], check=False, capture_output=True)
    ran = {path.stem for path in tmp_path.rglob("*.ran")}
    asked = {"monitor", "filter0", "filter1", "filter2", "post-index-change"}
    assert ran >= asked, "the folder is what the test takes it for"
