"""The files of a run: what a node notes is checked before anything is made of it."""

from __future__ import annotations

import json
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
    program, ran = tmp_path / "program", tmp_path / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\ncat\n")
    program.chmod(0o755)
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def git(*words: str) -> None:
        person = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *person, *words], check=True, capture_output=True)

    git("init")
    (folder / "run.toml").write_text("out = 1")
    (folder / ".gitattributes").write_text("*.toml filter=own\n")
    git("add", "-A")
    git("commit", "-m", "first")
    state = environment()["git"]
    assert state["changed"] is False and len(state["commit"]) == 40
    for name in ("core.fsmonitor", "filter.own.clean", "filter.own.smudge", "filter.own.process"):
        git("config", name, str(program))
    git("config", "filter.own.required", "true")
    (folder / "run.toml").write_text("out = 2")
    assert environment()["git"] == {**state, "changed": True}
    assert not ran.exists()
    subprocess.run(["git", "status"], check=False, capture_output=True)
    assert ran.exists(), "the folder is what the test takes it for"
