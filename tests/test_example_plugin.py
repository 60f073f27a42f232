"""The example of docs/plugins.md: installed with pip, then used through the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.plugins import EXAMPLE
from vadpipe.pipeline.store.feature_sets import list_stores

FRAMES, HEIGHT, WIDTH = 40, 40, 50
EVENT = (16, 32)
# Many commands in one process: an import of the libraries takes longer than all of them.
SCRIPT = """
import contextlib, io, json, sys
from vadpipe.pipeline.cli.main import cli
if __name__ == "__main__":
    printed = []
    for arguments in json.load(sys.stdin):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = cli(arguments, standalone_mode=False)
        assert not code, (arguments, code)
        printed.append(out.getvalue())
    json.dump(printed, sys.stdout)
"""


def draw(folder: Path, seed: int, event: tuple[int, int] | None = None) -> None:
    """Pictures of noise; during an event a block of four cells of 10 x 10 flickers."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(FRAMES):
        frame = rng.integers(100, 104, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        if event and event[0] <= i < event[1] and i % 2:
            frame[10:30, 20:40] = 220
        Image.fromarray(frame).save(folder / f"{i:03d}.png")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed with pip in a folder of its own."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, folder / "source")  # a build leaves files in its source
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    options = ["--no-index", "--disable-pip-version-check", "--target", str(folder / "site")]
    subprocess.run([*command, *options, str(folder / "source")], check=True, cwd=folder)
    return folder / "site"


@pytest.fixture(scope="module")
def yards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set: four normal videos, two test videos, one with an event."""
    root = tmp_path_factory.mktemp("yards")
    for i in range(4):
        draw(root / "normal" / f"day{i}", i)
    draw(root / "test" / "gate", 10, EVENT)
    draw(root / "test" / "wall", 11)
    (root / "events.csv").write_text(f"gate,{EVENT[0]},{EVENT[1]}\n")
    return root


COMMANDS = {
    "manifest": "manifest yards {yards} -o m.parquet",
    "probe": "probe m.parquet --json",
    "extract in a worker": "extract m.parquet -e cells:coarse --workers 1",
    "extract again": "extract m.parquet -e cells:coarse",
    "extract in short spans": "extract m.parquet -e cells:coarse --cache spans --span-frames 12",
    "train": "train restless m.parquet",
    "score": "score restless m.parquet -o out",
    "evaluate": "evaluate out m.parquet --bootstrap 0 --json",
    "report": "report out m.parquet",
    "evaluate objects": "evaluate out m.parquet --bootstrap 0 --json --column objects",
    "report objects": "report out m.parquet --column objects -o objects.html",
    "list models": "list models",
    "list extractors": "list extractors",
    "list cells": "list extractors cells --json",
    "list restless": "list detectors restless",
    "list yards": "list datasets yards",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def printed(folder: Path, site: Path, yards: Path) -> dict[str, str]:
    """What each command printed, run with the example on the path."""
    script = folder / "commands.py"  # a file: worker processes import it
    script.write_text(SCRIPT)
    paths = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps([text.format(yards=yards).split() for text in COMMANDS.values()]),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "VADPIPE_CACHE": str(folder / "cache")},
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(COMMANDS, json.loads(done.stdout), strict=True))


def test_from_manifest_to_page(printed: dict[str, str], folder: Path) -> None:
    assert "6 records of yards" in printed["manifest"]
    assert len(json.loads(printed["probe"])["videos"]) == 6
    assert "6 shards written" in printed["extract in a worker"], "workers find the plug-in too"
    assert "nothing to do" in printed["extract again"]
    assert "2 videos scored (2 new)" in printed["score"]
    assert json.loads(printed["evaluate"])["micro_auc"] == 1.0
    assert printed["report"].strip() == "out/report.html"
    assert "excess" in (folder / "out" / "report.html").read_text(), "the map is on the page"
    assert "Boxes: 4" in (folder / "out" / "report.html").read_text(), "and so are the boxes"
    assert json.loads(printed["evaluate objects"])["column"] == "objects"
    assert "score column objects" in (folder / "objects.html").read_text()
    boxes = pq.read_table(folder / "out" / "regions" / "gate.parquet").to_pylist()
    assert {row["frame"] for row in boxes} == set(range(*EVENT))
    assert len(boxes) == 4 * (EVENT[1] - EVENT[0])
    assert {(row["x0"], row["y1"]) for row in boxes} == {(20, 20), (30, 20), (20, 30), (30, 30)}
    assert pq.read_table(folder / "out" / "regions" / "wall.parquet").num_rows == 0


def test_features_and_model_name_the_distribution(printed: dict[str, str], folder: Path) -> None:
    card = json.loads((folder / printed["train"].strip() / "config.json").read_text())
    origin = {"name": "vadpipe-example", "version": "0.1.0"}
    assert card["distribution"] == origin
    assert card["features"].keys() == {"patch", "object"}
    assert all(recipe["distribution"] == origin for recipe in card["features"].values())


def test_the_size_of_spans_changes_no_number(printed: dict[str, str], folder: Path) -> None:
    assert "24 shards written" in printed["extract in short spans"]
    (whole,), (spans,) = (list_stores(folder / cache) for cache in ("cache", "spans"))
    counts = []
    for content_id in whole.index()["content_id"].to_pylist():
        one, two = whole.read(content_id), spans.read(content_id)
        assert one.arrays.keys() == {"change", "boxes", "cell", "strength"}
        for name, values in one.arrays.items():
            assert np.array_equal(values[:], two.arrays[name][:]), name
        for axis, times in one.times.items():
            assert np.array_equal(times.frame_start, two.times[axis].frame_start), axis
            assert np.array_equal(times.frame_stop, two.times[axis].frame_stop), axis
        counts.append([len(one.times[axis].frame_start) for axis in ("snippet", "object")])
    # five clips a video; in two clips of the event four cells are busy
    assert sorted(counts) == [[5, 0]] * 5 + [[5, 8]]


def test_all_is_listed(printed: dict[str, str]) -> None:
    assert "restless" in printed["list models"] and "patch cells-" in printed["list models"]
    assert "cells\tThe change of every cell" in printed["list extractors"]
    assert "\tvadpipe-example 0.1.0\n" in printed["list extractors"]
    facts = json.loads(printed["list cells"])
    assert [array["axis"] for array in facts["arrays"]] == ["snippet", "object", "object", "object"]
    assert all(setting["description"] for setting in facts["settings"])
    assert "needs: patch, object\nreturns boxes: yes" in printed["list restless"]
    assert "floor: float > 0, default 0.5" in printed["list restless"]
    assert "events: text, default events.csv" in printed["list yards"]
    assert "normal/monday.mp4" in printed["list yards"]
