"""One recipe with everything: derived features, two detectors, a fusion, a page; and kills.

It runs in processes of their own, with the example plug-in on their path.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.plugins import EXAMPLE, write_distribution
from tests.synthetic import write_tiny_scene

SOAK = os.environ.get("VADPIPE_SOAK") == "1"
REPOSITORY = Path(__file__).resolve().parents[3]
RECIPE = """
out = "result"
cache = "cache"
max_bytes = 1000000000
[manifest]
dataset = "synthetic"
root = "scene"
[[extract]]
name = "small"
extractor = "frames"
set = { size = [16, 24] }
[[extract]]
name = "colours"
extractor = "null"
from = "small"
[[extract]]
name = "cells"
extractor = "cells:coarse"
[[train]]
name = "near"
detector = "knn"
features = { snippet = "colours" }
grid = { k = [1, 2] }
[[train]]
name = "busy"
detector = "restless"
grid = { floor = [0.5, 2.0] }
[[fuse]]
name = "late"
scores = { "near-k=1" = 1.0, "busy-floor=0.5" = 0.5 }
[report]
scores = ["late"]
[engine]
threads = 1
"""
KINDS = ("extract", "train", "score", "fuse", "evaluate", "report")
NODES = 3 + 4 * 3 + 2 + 1

# Runs a recipe; with a kind of node and a moment, the process kills itself in it.
SCRIPT = """
import os, signal, sys

def killing(run, moment):
    def at(*given):
        if moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = run(*given)
        os.kill(os.getpid(), signal.SIGKILL)
        return done
    return at

def main():
    from vadpipe.pipeline.cli.main import cli
    recipe, kind, moment, *changes = sys.argv[1:]
    if kind == "extract":
        from vadpipe.pipeline.run import execute, nodes
        execute.run_extracts = killing(nodes.run_extracts, moment)
    elif kind:
        from vadpipe.pipeline.run import nodes
        nodes._RUN[kind] = killing(nodes._RUN[kind], moment)
    options = [word for c in changes if c != "cluster" for word in ("--set", c)]
    if "cluster" in changes:
        from tests.dask_cluster import cluster
        with cluster() as address:
            options += ["--set", f"engine.scheduler={address}"]
            options += ["--set", "engine.insecure_loopback=true"]
            cli(["run", recipe, "--json", *options])
    cli(["run", recipe, "--json", *options])

if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example plug-in, and a recipe beside a tiny scene. Each test has results of its own."""
    tmp_path = tmp_path_factory.mktemp("recipe")
    points = {
        "vadpipe.extractors": {"cells": "vadpipe_example.cells:Cells"},
        "vadpipe.detectors": {"restless": "vadpipe_example.restless:Restless"},
    }
    write_distribution(tmp_path / "site", "vadpipe-example", points)
    shutil.copytree(EXAMPLE / "vadpipe_example", tmp_path / "site" / "vadpipe_example")
    write_tiny_scene(tmp_path / "scene")
    (tmp_path / "run.toml").write_text(RECIPE)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def run(site: Path, *changes: str, kill: tuple[str, str] = ("", "")) -> Any:
    """What the run prints; the exit code where it is killed."""
    path = os.pathsep.join([str(site / "site"), str(REPOSITORY), *sys.path])
    command = [sys.executable, "script.py", "run.toml", *kill, *changes]
    done = subprocess.run(
        command,
        cwd=site,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    if kill[0]:
        return done.returncode
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def calm(site: Path) -> Any:
    """What a run prints that nothing disturbs."""
    return run(site, "out=calm", "cache=calm-cache")


def states(printed: Any) -> list[str]:
    return [node["state"] for node in printed["nodes"]]


def scores_of(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.parent.name: pq.read_table(path)["score"].to_numpy()
        for path in sorted(folder.glob("scores/*/scores.parquet"))
    }


def test_a_run_that_is_killed_in_every_kind_of_node_ends_equal(site: Path, calm: Any) -> None:
    """Kills before or after the work of nodes of every kind, ten in the long form; nothing is lost
    or wrong."""
    assert states(calm) == ["ran"] * NODES
    drawn = np.random.default_rng(0)
    before = {str(kind) for kind in drawn.choice(KINDS, 4 if SOAK else 2, replace=False)}
    kills = [(kind, "before") for kind in KINDS if kind in before]
    kills += [(kind, "after") for kind in KINDS if SOAK or kind not in before]
    for kind, moment in sorted(kills, key=lambda kill: (KINDS.index(kill[0]), kill[1] == "after")):
        assert run(site, kill=(kind, moment)) == -signal.SIGKILL, (kind, moment)
    last = run(site)
    assert set(states(last)) == {"ran", "done"} and len(last["nodes"]) == NODES
    ours, theirs = (scores_of(site / name) for name in ("result", "calm"))
    assert set(ours) == {"near-k=1", "near-k=2", "busy-floor=0.5", "busy-floor=2.0", "late"}
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values)
    assert [row["micro_auc"] for row in last["results"]] == [
        row["micro_auc"] for row in calm["results"]
    ]
    assert (site / "result/scores/late/report.html").is_file()
    changed = run(site, "train.busy.grid.floor=[0.5]")
    assert states(changed).count("ran") == 0 and len(changed["nodes"]) == NODES - 3


@pytest.mark.parametrize("where", ["engine.workers=2", "cluster"])
def test_other_processes_give_equal_results(site: Path, calm: Any, where: str) -> None:
    out = where.partition(".")[0]
    there = run(site, f"out={out}", f"cache={out}-cache", where)
    assert set(states(there)) == {"ran"} and len(there["nodes"]) == NODES
    ours, theirs = (scores_of(site / name) for name in ("calm", out))
    assert set(ours) == set(theirs)
    for name, values in ours.items():
        np.testing.assert_allclose(theirs[name], values, rtol=1e-6)
