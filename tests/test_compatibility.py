"""What earlier versions have written is read with equal results.

`tests/data/v0_1` is a cache with models and score folders as version 0.1.0 wrote them, and
`expected.json` what that version read from them. The tests work on copies; the footage then lies
at another path, so files are probed again and everything must be found by content.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.stored import (
    describe_models,
    describe_probe,
    describe_scores,
    describe_stores,
    maps_of,
    read_arrays,
)
from vadpipe.data_manifests import read_manifest
from vadpipe.pipeline.cli.main import cli

DATA = Path(__file__).resolve().parent / "data" / "v0_1"
EXPECTED: dict[str, Any] = json.loads((DATA / "expected.json").read_text(encoding="utf-8"))
SCORES = sorted(EXPECTED["scores"])
TRAINED = sorted(step for step in EXPECTED["commands"] if step.startswith("train_"))
EXTRACTED = sorted(step for step in EXPECTED["commands"] if step.startswith("extract_"))

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run vadpipe in a copy of the folder; gives stdout."""
    shutil.copytree(DATA, tmp_path / "v0_1")
    monkeypatch.chdir(tmp_path / "v0_1")
    monkeypatch.setenv("VADPIPE_CACHE", str(Path("cache").absolute()))

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.stdout

    return call


def again(run: Run, step: str, *more: str) -> str:
    """The command of a step as it was given to version 0.1.0."""
    words = [word.format(**EXPECTED["names"]) for word in EXPECTED["commands"][step]]
    return run(*words, *more, code=EXPECTED["codes"].get(step, 0))


def files_of(*folders: str) -> dict[str, bytes]:
    """All files below these folders, by path."""
    paths = (path for folder in folders for path in Path(folder).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in paths}


def apart_from_the_index(*folders: str) -> dict[str, bytes]:
    """All files but the index, to which more is noted than version 0.1 did."""
    return {path: data for path, data in files_of(*folders).items() if "/index/" not in path}


# What is measured, or noted of a result, besides what version 0.1 did; it takes nothing away.
ADDED = frozenset({"sizes", "regions", "rule", "events", "scene", "scene_trained"}) | {
    "labels_sha256",
    "latency_aware_ap",
}


def assert_close(ours: Any, theirs: Any, where: str = "") -> None:
    """Equal, but for the last digits of floats: processors differ in them."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict) and set(ours) - (ADDED - set(theirs)) == set(theirs), where
        for name in theirs:
            assert_close(ours[name], theirs[name], f"{where}.{name}")
    elif isinstance(theirs, list):
        assert isinstance(ours, list) and len(ours) == len(theirs), where
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_close(a, b, f"{where}[{i}]")
    elif isinstance(theirs, float):
        assert math.isclose(ours, theirs, rel_tol=1e-4, abs_tol=1e-7), f"{where}: {ours} {theirs}"
    else:
        assert ours == theirs, f"{where}: {ours!r} {theirs!r}"


# ------------------------------------------------------------------------------- what is stored


def test_the_cache_is_whole_and_read_as_it_was(run: Run) -> None:
    before = files_of("cache")
    assert run("cache", "verify").strip() == "all shards are whole"
    listed = [line.split("\t")[:4] for line in run("cache", "ls").splitlines()]
    assert listed == [
        line.replace("1 videos", "1 video").replace("1 shards", "1 shard").split("\t")
        for line in EXPECTED["ls"]
    ]  # ages come after it
    assert run("cache", "quarantine").splitlines() == EXPECTED["quarantine"]
    assert json.loads(run("status", "--json", "--last", "100"))["runs"] == EXPECTED["runs"]
    for state in EXPECTED["runs"]:
        assert f"{state['name']}  {state['state']}  {state['command']}" in run("status")
    assert describe_stores(Path("cache")) == EXPECTED["stores"]
    assert describe_models(Path("cache")) == EXPECTED["models"]
    videos = EXPECTED["stores"][EXPECTED["names"]["null"]]["videos"].values()
    assert max(len(video["spans"]) for video in videos) > 1, "one lies in several shards"
    assert files_of("cache") == before, "looking changes nothing"


@pytest.mark.parametrize("name", SCORES)
def test_score_folders_are_read_as_they_were(name: str) -> None:
    found = json.loads(json.dumps(describe_scores(DATA / "scores" / name)))
    assert found == EXPECTED["scores"][name]


@pytest.mark.parametrize("name", sorted(EXPECTED["manifests"]))
def test_manifests_are_read_as_they_were(name: str) -> None:
    csv = read_manifest(DATA / f"{name}.csv")
    parquet = read_manifest(DATA / f"{name}.parquet", root=DATA / "footage")
    assert csv == parquet
    assert csv.digest == EXPECTED["manifests"][name]


def test_probe_rows_are_equal(run: Run) -> None:
    """Also where path, size and time are the old ones: old rows do not prove which file it was.

    Files are opened once more, then no more.
    """
    for part in Path("cache/probe").glob("*.parquet"):
        table = pq.read_table(part)
        for column in ("path", "signature"):
            values = [_moved(text) for text in table[column].to_pylist()]
            at = table.column_names.index(column)
            table = table.set_column(at, column, pa.array(values, pa.string()))
        for row in table.select(["path", "signature"]).to_pylist():
            path = Path(row["path"])
            modified = int(row["signature"].split("|")[-2])
            for file in [path, *path.glob("*")]:
                os.utime(file, ns=(modified, modified))
        pq.write_table(table, part)
    known = {row["content_id"]: row for row in EXPECTED["probe"]}
    written = set()
    for _ in range(2):
        for manifest, code in (("weak.csv", 0), ("normal.csv", 3)):
            run("probe", manifest, code=code)
        assert {row["content_id"]: row for row in describe_probe(Path("cache"))} == known
        written.add(len(files_of("cache/probe")))
    assert len(written) == 1, "nothing is written the second time"
    shutil.rmtree("cache/probe")
    for manifest, code in (("weak.csv", 0), ("normal.csv", 3)):
        run("probe", manifest, code=code)
    assert {row["content_id"]: row for row in describe_probe(Path("cache"))} == known


def _moved(text: str) -> str:
    """A path of the old table, or what ends with one, as it is in this folder."""
    head, _, tail = text.partition("/tmp/vadpipe-0.1.0/")
    return f"{head}{Path.cwd()}/{tail}"


# ---------------------------------------------------------------------------- nothing done twice


def test_nothing_is_extracted_or_imported_again(run: Run) -> None:
    before = apart_from_the_index("cache/features")
    for step in [*EXTRACTED, "import"]:
        assert "nothing to do" in again(run, step), step
    assert apart_from_the_index("cache/features") == before
    (failed,) = pq.read_table("cache/failures/normal-extract.parquet").to_pylist()[1:]
    assert (failed["video_id"], failed["error"]) == ("locked", "Quarantined")


def test_nothing_is_trained_again(run: Run) -> None:
    before = files_of("cache/models")
    for step in TRAINED:
        if step == "train_mil_ranking":
            continue  # see below
        folder = Path(again(run, step).strip())
        assert folder.name == EXPECTED["names"][step.removeprefix("train_")]
    assert files_of("cache/models") == before


def test_what_trains_otherwise_now_is_trained_beside_the_old_model(run: Run) -> None:
    """Version 2 of mil_ranking: other first weights, weaker decay, segments as they are."""
    before = files_of("cache/models")
    folder = Path(again(run, "train_mil_ranking").strip())
    assert folder.name != EXPECTED["names"]["mil_ranking"]
    assert json.loads((folder / "config.json").read_text("utf-8"))["detector_version"] == 2
    assert files_of("cache/models").items() >= before.items()


@pytest.mark.parametrize("name", SCORES)
def test_nothing_is_scored_again_in_an_old_folder(run: Run, name: str) -> None:
    out = f"scores/{name}"
    kept = (f"{out}/scores", f"{out}/maps", "cache/features", "cache/models")
    before = files_of(*kept)
    n = len(EXPECTED["scores"][name]["parts"])
    assert f"{n} videos scored (0 new)" in again(run, f"score_{name}")
    assert files_of(*kept) == before
    assert_close(_described(Path(out)), EXPECTED["scores"][name])


# --------------------------------------------------------------------------------- equal results


@pytest.mark.parametrize("step", EXTRACTED)
def test_features_that_are_made_again_are_equal(run: Run, step: str) -> None:
    words = list(EXPECTED["commands"][step])
    if step == "extract_patches":
        words[1] = "frames.csv"  # one video of those: a network takes its time
    run(*words, "--cache", "new", "--batch-size", "1")  # no search for the best one
    name = EXPECTED["names"][step.removeprefix("extract_")]
    ours, theirs = read_arrays(Path("new"), name), read_arrays(Path("cache"), name)
    assert ours and set(ours) <= set(theirs)
    for which, new in ours.items():
        old = theirs[which]
        assert (new.shape, new.dtype) == (old.shape, old.dtype), which
        # Decoders differ in how they round colours, processors in how they add.
        tolerance = 2 if old.dtype == np.uint8 else 0.01 * float(np.abs(old).max())
        np.testing.assert_allclose(new.astype(float), old.astype(float), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", SCORES)
def test_old_models_and_features_give_equal_scores(run: Run, name: str) -> None:
    before = apart_from_the_index("cache/features", "cache/models")
    n = len(EXPECTED["scores"][name]["parts"])
    assert f"{n} videos scored ({n} new)" in again(run, f"score_{name}", "-o", "new")
    assert apart_from_the_index("cache/features", "cache/models") == before, "nothing extracted"
    ours, theirs = _described(Path("new")), dict(EXPECTED["scores"][name])
    for video_id, maps in theirs.pop("maps").items():
        stored = maps_of(DATA / "scores" / name, video_id)
        new = maps_of(Path("new"), video_id)
        assert set(stored) == set(new) == set(maps)
        for each, values in stored.items():
            # maps are stored in 11 bits now, see docs/score.md
            np.testing.assert_allclose(new[each], values, rtol=1 / 2048 + 1e-4, atol=1e-7)
    ours.pop("maps")
    assert_close(ours, theirs)


@pytest.mark.parametrize("name", SCORES)
def test_old_score_folders_are_evaluated_and_reported(run: Run, name: str) -> None:
    out, manifest = f"scores/{name}", EXPECTED["commands"][f"score_{name}"][2]
    run("report", out)
    page = Path(out, "report.html").read_text(encoding="utf-8")
    metrics = json.loads(run("evaluate", out, manifest, "--json"))
    assert_close(metrics, EXPECTED["scores"][name]["metrics"])
    run("report", out, manifest)
    for video_id in EXPECTED["scores"][name]["parts"]:
        assert video_id in page and video_id in Path(out, "report.html").read_text("utf-8")


def _described(out: Path) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(json.dumps(describe_scores(out)))
    return described
