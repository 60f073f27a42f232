"""What is damaged among the derived files of a cache is made again; sources are left alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.chain import video
from tests.pipeline.store.test_feature_store import CONTENT, write
from vadpipe.extractors.clips import Span
from vadpipe.extractors.footage.errors import DecoderHang
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.engine import quarantine
from vadpipe.pipeline.engine.journal import journal, read_runs
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.repair import repair_cache
from vadpipe.pipeline.store.feature_sets import list_stores, unreadable_sets
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.probe_table import load_probes, probe_parts, save_probes

RECIPE = {
    "extractor": "toy",
    "arrays": [
        {"name": "x", "dtype": "float16", "dims": ["snippet", "feature"], "shape": [3]}
        | {"role": "snippet", "grid": None, "attrs": {}}
    ],
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """One of each kind of derived file, and a shard."""
    store = FeatureStore(tmp_path, RECIPE)
    store.create()
    store.add_index_part([write(store, Span(CONTENT, 0, 8, True), 8)])
    save_probes(tmp_path, [("2|a|/drawn.mp4", video(8))])
    with journal(tmp_path, "", {"videos": 1, "spans": 1, "frames": 1}):
        pass
    (tmp_path / "tuning.json").write_text('{"cpu net": 8}')
    return tmp_path


def index_part(cache: Path) -> Path:
    (store,) = list_stores(cache)
    return store.shard_index.parts()[0]


PLACES: dict[str, Callable[[Path], Path]] = {
    "probe": lambda cache: probe_parts(cache)[0],
    "run": lambda cache: next((cache / "runs").iterdir()),
    "batch sizes": lambda cache: cache / "tuning.json",
    "index": index_part,
}


def test_nothing_is_damaged(cache: Path) -> None:
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    made = repair_cache(cache)
    assert (made.done, made.left) == ([], [])
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("damage", [b"", b"{", b"PAR1 x PAR1", b'{"a": [1e999]}'])
def test_one_file_of_each_kind(cache: Path, kind: str, damage: bytes) -> None:
    path = PLACES[kind](cache)
    path.write_bytes(damage)
    made = repair_cache(cache)
    assert len(made.done) == 1 and path.name in made.done[0] and not made.left
    assert not path.exists()
    assert repair_cache(cache).done == []
    assert len(list_stores(cache)[0].index()) == 1
    assert len(load_probes(cache)) == (kind != "probe")
    assert len(read_runs(cache)) == (kind != "run")


@pytest.mark.parametrize("kind", [*PLACES, "quarantine"])
@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path.name)])
def test_something_else_at_the_name_of_a_file(
    cache: Path, kind: str, put: Callable[[Path], object]
) -> None:
    """A folder, a pipe or a link that leads in a circle blocks no other file, and can go."""
    quarantine.add(cache, "s1-a", "/a.mp4", DecoderHang(""))
    path = next((cache / "quarantine").iterdir()) if kind == "quarantine" else PLACES[kind](cache)
    path.unlink()
    put(path)
    (store,) = list_stores(cache)
    assert store.read(CONTENT).n_frames == 8 and len(store.index()) == (kind != "index")
    made = repair_cache(cache)
    if kind == "quarantine":
        assert path.name in made.left[0] and not made.done
        quarantine.release_all(cache)
    else:
        assert path.name in made.done[0] and not made.left
    assert repair_cache(cache).done == [] and not path.is_symlink() and not path.exists()
    assert len(store.index()) == 1


def test_a_recipe_is_written_again_where_a_model_has_it(cache: Path) -> None:
    (store,) = list_stores(cache)
    spec = store.root / "spec.json"
    good = spec.read_bytes()
    spec.write_text("[")
    made = repair_cache(cache)
    assert made.done == [] and len(made.left) == 1 and store.name in made.left[0]
    card = ModelFolder.named(cache, "knn-0").path / "config.json"
    card.parent.mkdir(parents=True)
    facts = {"detector": "knn", "detector_version": 1, "config": {}, "calibration": {}}
    card.write_text(json.dumps({**facts, "features": {"snippet": json.loads(good)}}))
    broken = ModelFolder.named(cache, "knn-1").path / "config.json"
    broken.parent.mkdir()
    broken.write_text("{")
    made = repair_cache(cache)
    assert made.left == [] and store.name in made.done[0] and spec.read_bytes() == good
    assert unreadable_sets(cache) == {} and broken.read_text() == "{"


def test_the_command(cache: Path) -> None:
    def run(*arguments: str, code: int) -> str:
        done = CliRunner().invoke(cli, [*arguments, "--cache", str(cache)])
        assert done.exit_code == code, done.output
        return done.output

    assert run("cache", "repair", code=0) == "no derived file is damaged\n"
    quarantine.add(cache, "s1-a", "/a.mp4", DecoderHang(""))
    (entry,) = (cache / "quarantine").iterdir()
    entry.write_text("{")
    name = list_stores(cache)[0].name
    (cache / "features" / name / "spec.json").unlink()
    listed = run("cache", "ls", code=0)
    assert f"{name}\tcannot be opened" in listed
    assert "cannot be opened" in run("cache", "verify", code=1)
    assert run("cache", "repair", code=1).count("\n") == 2
    assert "deleted" in run("cache", "rm", name, "--yes", code=0)
    run("cache", "quarantine", "--release", "all", code=0)
    assert run("cache", "repair", code=0) == "no derived file is damaged\n"
