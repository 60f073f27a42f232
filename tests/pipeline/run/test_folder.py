"""The files of a run: what a node notes is checked before anything is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vadpipe.pipeline.run.folder import Done, RunFolder


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
