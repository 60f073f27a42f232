"""What `vadpipe list` says is what the code says, of built-ins and of plug-ins."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.bags import weak_bags
from tests.plugins import reread, write_distribution
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.models import ModelFolder, make_detector
from vadpipe.pipeline.registry import DATASETS, DETECTORS, EXTRACTORS
from vadpipe.pipeline.scores.events import Calibration
from vadpipe.pipeline.tables.listing import (
    KINDS,
    ListingError,
    described,
    described_lines,
    listed,
    listed_lines,
    models,
    models_lines,
)

ALL = [(kind, name) for kind, registry in KINDS.items() for name in registry]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["list", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_a_kind_are_listed(kind: str) -> None:
    rows = listed(kind)
    assert [row["name"] for row in rows] == list(KINDS[kind])
    for row, line in zip(rows, listed_lines(rows), strict=True):
        assert row["description"].endswith(".") and "\n" not in line
        assert re.fullmatch(r"vadpipe \d.*", row["distribution"])


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_all_about_each_of_them(kind: str, name: str) -> None:
    facts = described(kind, name)
    assert facts == json.loads(json.dumps(facts)), "plain JSON values"
    text = "\n".join(described_lines(facts))
    for each in facts["settings"]:
        said = each["description"]
        for source in each["source"].split("; "):
            said = said.replace(source, "") if source else said
        assert re.search(r"[a-zA-Z]{2}", said), f"{each['name']} is not described"
        assert f"  {each['name']}: {each['type']}, " in text
    if kind == "extractors":
        made = EXTRACTORS[name]
        assert [a["name"] for a in facts["arrays"]] and facts["clips"]["length"] >= 1
        assert facts["presets"].keys() == made.presets.keys()
        cards = {slot: [c.name for c in cards] for slot, cards in made.networks.items()}
        told = {s: [c["name"] for c in cards] for s, cards in facts["networks"].items()}
        assert told == cards
        for each in (c for cards in facts["networks"].values() for c in cards):
            assert each["licence"] and each["get"] in text
            assert ("weights fetch" in each["get"]) == bool(each["sources"])
    if kind == "detectors":
        assert facts["supervision"] == DETECTORS[name].supervision.value
        assert facts["needs"]
    if kind == "datasets" and name != "footage":
        assert "/" in facts["folder"] or ".npz" in facts["folder"], "there is a picture"


def test_the_facts_that_were_asked_for_are_there() -> None:
    text = run("detectors", "ssrl")
    assert "margin: float > 0, default 100.0\n      epsilon, SSRL Sect. 4.2 and eq. 8" in text
    assert "learns from: weak" in text and "needs: snippet, patch" in text
    text = run("extractors", "patch_cubes")
    assert "  small: frame_size = [240, 360], patch_sizes = [[120, 120], [80" in text
    assert "grid_2x3: float16, axis snippet (a row a clip), 6 patch x 1024 feature" in text
    facts = json.loads(run("datasets", "ucf_crime", "--json"))
    assert [o["name"] for o in facts["settings"]] == [
        *("footage", "frame_counts", "split_file", "subset", "normal_only")
    ]
    assert "Anomaly_Train.txt" in facts["folder"]
    assert len(json.loads(run("datasets", "--json"))["datasets"]) == len(DATASETS)


@pytest.mark.parametrize(
    ("kind", "typo", "meant"),
    [
        ("extractors", "nul", "null"),
        ("detectors", "rtmf", "rtfm"),
        ("datasets", "ucf", "ucf_crime"),
    ],
)
def test_a_typo_is_answered(kind: str, typo: str, meant: str) -> None:
    with pytest.raises(ListingError, match=f"there are: .*{meant}.*; did you mean '{meant}'"):
        described(kind, typo)


PLUGIN = '''
from vadpipe.extractors.base import ArraySpec, Config
from vadpipe.extractors.null import NullFeatures

class MineConfig(Config):
    size: int

class Mine(NullFeatures):
    """Something
    of mine."""
    name = "mine"
    Config = MineConfig

def build(root, subset=False):
    """Make my manifest."""
'''


def test_plugins_are_listed_with_their_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {
        "vadpipe.extractors": {"mine": "plugin_list:Mine", "gone": "plugin_gone:Mine"},
        "vadpipe.datasets": {"files": "plugin_list:build"},
    }
    write_distribution(tmp_path, "plugin-a", points, {"plugin_list": PLUGIN}, "3.2")
    monkeypatch.syspath_prepend(tmp_path)
    reread(monkeypatch)
    rows = {row["name"]: row for row in listed("extractors")}
    assert rows["mine"]["distribution"] == "plugin-a 3.2"
    assert rows["mine"]["description"] == "Something of mine."
    assert "plugin-a 3.2 cannot be imported" in rows["gone"]["broken"]
    lines = listed_lines(list(rows.values()))
    assert any(line.startswith("gone\tbroken: ") for line in lines)
    facts = described("extractors", "mine")
    assert facts["arrays"] is None, "a setting has no default"
    text = described_lines(facts)
    assert "  size: int, required" in text
    assert "arrays: depend on settings that have no default" in text
    (files,) = [row for row in listed("datasets") if row["name"] == "files"]
    assert (files["description"], files["distribution"]) == ("Make my manifest.", "plugin-a 3.2")


def test_models_of_a_cache(tmp_path: Path) -> None:
    detector = make_detector("knn")
    detector.fit(weak_bags(4), device="cpu", seed=0)
    recipe: dict[str, Any] = {"extractor": "null", "version": 1}
    recipe["arrays"] = [resolve_extractor("null").recipe()["arrays"][0]]
    calibration = Calibration((0.0, 1.0), (0.0, 2.0), 1000, 10, "a test")
    card = {"features": {"snippet": recipe}, "seed": 7, "calibration": calibration.to_json()}
    folder = ModelFolder(tmp_path / "models" / "knn-1")
    folder.save(detector, {**card, "trained_on": {"dataset": "d"}, "contents": ["long"]})
    (row,) = models(tmp_path)
    assert (row["name"], row["detector"], row["seed"]) == ("knn-1", "knn", 7)
    assert row["features"]["snippet"].startswith("null-")
    assert row["threshold"] == {"rule": "quantile 0.99", "value": pytest.approx(1.98)}
    assert row["bytes"] == sum(p.stat().st_size for p in folder.path.iterdir())
    (line,) = models_lines([row])
    assert line.startswith("knn-1\tknn\tseed 7\tsnippet null-")
    assert "\tthreshold 1.98 (quantile 0.99)\t" in line
    text = run("models", "knn", "--cache", str(tmp_path))
    assert "  k = 1\n" in text and "  dataset: d" in text and "long" not in text
    facts = json.loads(run("models", "--cache", str(tmp_path), "--json"))
    assert facts == {"models": [row]}


def test_a_broken_model_does_not_hide_the_others(tmp_path: Path) -> None:
    for name, text in (("a-1", "{}"), ("b-1", "no json")):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.json").write_text(text)
    rows = models(tmp_path)
    assert [row["name"] for row in rows] == ["a-1", "b-1"]
    assert all("broken" in line for line in models_lines(rows))
    assert run("models", "--cache", str(tmp_path / "gone")).startswith("no models in ")


@pytest.mark.parametrize("name", list(DATASETS))
def test_how_says_where_to_get_a_data_set_and_draws_its_folder(name: str) -> None:
    done = CliRunner().invoke(cli, ["manifest", name, "--how"], catch_exceptions=False)
    facts = described("datasets", name)
    assert facts["obtain"] and facts["obtain"] in done.stdout
    assert facts["folder"] in done.stdout
    assert f"vadpipe manifest {name} ROOT -o {name}.parquet" in done.stdout


def test_a_manifest_needs_a_folder_and_a_file() -> None:
    done = CliRunner().invoke(cli, ["manifest", "avenue"])
    assert done.exit_code == 2 and "--how" in done.output
