"""What of a cache is old, what stays because it is needed, and what deleting leaves."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.pipeline.cli.cache import cache as command
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.old_entries import (
    DAY,
    Entry,
    delete_entries,
    list_entries,
    old_entries,
)
from vadpipe.pipeline.store.keys import folder_name
from vadpipe.pipeline.store.locks import mark_used, training, writing

ARRAYS = [{"name": "pixels", "dtype": "uint8", "dims": ["row", "height"], "shape": [8]}]
RECIPE = {"extractor": "frames", "arrays": ARRAYS, "config": {"size": [8, 8]}}
OTHER = {"extractor": "flow", "arrays": ARRAYS, "config": {}}
SET, SPARE = folder_name("frames", RECIPE), folder_name("flow", OTHER)


def card(recipe: dict[str, Any]) -> str:
    """Of a model that was trained on these features."""
    values = {"detector": "knn", "detector_version": 1, "config": {}, "calibration": {}}
    return json.dumps(values | {"features": {"snippet": recipe}})


def aged(path: Path, days: float) -> None:
    """Let a folder and all in it be written so long ago."""
    when = time.time() - days * DAY
    for each in (*path.rglob("*"), path):
        os.utime(each, (when, when), follow_symlinks=False)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two feature sets, a model that was trained on one, and an unfinished training."""
    for name, days in ((SET, 100), (SPARE, 50)):
        shard = tmp_path / "features" / name / "shards" / "aa" / "video" / "0-8.h5"
        shard.parent.mkdir(parents=True)
        shard.write_bytes(b"12345")
        (tmp_path / "features" / name / "spec.json").write_text("{}")
        aged(tmp_path / "features" / name, days)
    for name, days in (("knn-1", 30), ("unfinished/knn-2", 10)):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.json").write_text(card(RECIPE))
        aged(tmp_path / "models" / name, days)
    return tmp_path


def names(entries: list[Entry]) -> list[str]:
    return [entry.name for entry in entries]


def test_everything_is_listed_with_its_size_and_age(cache: Path) -> None:
    entries = {entry.name: entry for entry in list_entries(cache)}
    now = time.time()
    assert {name: round(entry.days(now)) for name, entry in entries.items()} == {
        SPARE: 50,
        SET: 30,  # when the model was trained on it
        "knn-1": 30,
        "knn-2": 10,
    }
    assert entries[SET].size == 7 and entries[SET].needed_by == ("knn-1",)
    assert entries[SPARE].needed_by == ()
    assert [entries[name].kind for name in (SET, "knn-1", "knn-2")] == [
        "features",
        "model",
        "unfinished",
    ]


@pytest.mark.parametrize(
    ("days", "keep", "old"),
    [
        (200, False, []),
        (40, False, [SPARE]),
        (20, False, [SET, SPARE, "knn-1"]),
        (20, True, [SPARE]),
        (0, True, [SPARE, "knn-2"]),
        (0, False, [SET, SPARE, "knn-1", "knn-2"]),
    ],
)
def test_what_is_old(cache: Path, days: float, keep: bool, old: list[str]) -> None:
    found = old_entries(list_entries(cache), older_than=days, keep_models=keep)
    assert sorted(names(found)) == sorted(old)


def test_a_set_that_a_young_model_needs_stays(cache: Path) -> None:
    aged(cache / "models" / "knn-1", 1)
    found = old_entries(list_entries(cache), older_than=20, keep_models=False)
    assert names(found) == [SPARE]


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=6),
    st.lists(st.tuples(st.floats(0, 100), st.sets(st.integers(0, 5))), max_size=6),
    st.floats(0, 100),
    st.booleans(),
)
def test_no_model_that_stays_loses_its_features(
    sets: list[float], models: list[tuple[float, set[int]]], days: float, keep: bool
) -> None:
    now = 1e9
    entries = [
        Entry(
            "features",
            f"set-{i}",
            Path("none"),
            1,
            now - age * DAY,
            tuple(f"model-{j}" for j, (_, needs) in enumerate(models) if i in needs),
        )
        for i, age in enumerate(sets)
    ]
    entries += [
        Entry("model", f"model-{j}", Path("none"), 1, now - age * DAY)
        for j, (age, _) in enumerate(models)
    ]
    going = set(names(old_entries(entries, older_than=days, keep_models=keep, now=now)))
    for entry in entries:
        if entry.kind == "features" and entry.name in going:
            assert going.issuperset(entry.needed_by)
        if entry.name in going:
            assert entry.days(now) >= days
            assert not (keep and entry.kind == "model")


def test_deleting_leaves_the_rest(cache: Path) -> None:
    old = old_entries(list_entries(cache), older_than=20, keep_models=False)
    done = delete_entries(cache, old)
    assert sorted(names(done.done)) == sorted([SET, SPARE, "knn-1"]) and done.left == {}
    assert names(list_entries(cache)) == ["knn-2"]


def test_what_is_in_use_stays(cache: Path) -> None:
    old = list_entries(cache)
    with writing([cache / "features" / SPARE]), training(cache / "models" / "knn-2"):
        done = delete_entries(cache, old)
    assert set(done.left) == {SPARE, "knn-2"}
    assert "a run is writing" in done.left[SPARE] and "another run trains" in done.left["knn-2"]
    assert sorted(names(list_entries(cache))) == sorted([SPARE, "knn-2"])


def test_a_set_that_a_model_was_trained_on_meanwhile_stays(cache: Path) -> None:
    old = [entry for entry in list_entries(cache) if entry.name == SPARE]
    (cache / "models" / "knn-9").mkdir()
    (cache / "models" / "knn-9" / "config.json").write_text(card(OTHER))
    done = delete_entries(cache, old)
    assert done.left == {SPARE: "knn-9 was trained on it"} and not done.done


def test_a_damaged_card_keeps_all_feature_sets(cache: Path) -> None:
    old = list_entries(cache)
    (cache / "models" / "knn-1" / "config.json").write_text("{")
    aged(cache / "models" / "knn-1", 30)
    found = old_entries(list_entries(cache), older_than=0, keep_models=True)
    assert names(found) == ["knn-2"]
    done = delete_entries(cache, [entry for entry in old if entry.name == SPARE])
    assert "knn-1 is damaged" in done.left[SPARE] and not done.done
    found = old_entries(list_entries(cache), older_than=0, keep_models=False)
    assert sorted(names(delete_entries(cache, found).done)) == sorted(names(old))


def test_imported_sets_stay_unless_they_are_asked_for(cache: Path) -> None:
    (cache / "features" / "imported-0123").mkdir()
    aged(cache / "features" / "imported-0123", 300)
    entries = list_entries(cache)
    assert "imported-0123" not in names(old_entries(entries, older_than=20, keep_models=True))
    found = old_entries(entries, older_than=20, keep_models=True, imported=True)
    assert sorted(names(found)) == sorted([SPARE, "imported-0123"])
    assert "imported-0123" in gc(cache, "--older-than", "20", "--imported", "--dry-run")
    assert "imported-0123" not in gc(cache, "--older-than", "20", "--dry-run")


def test_links_are_removed_and_not_followed(cache: Path, tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere"
    kept.mkdir()
    (kept / "config.json").write_text("{}")
    aged(kept, 90)
    (cache / "models" / "knn-link").symlink_to(kept)
    old = [entry for entry in list_entries(cache) if entry.name == "knn-link"]
    assert names(delete_entries(cache, old).done) == ["knn-link"]
    assert (kept / "config.json").is_file() and not (cache / "models" / "knn-link").exists()


def test_damaged_cards_and_an_empty_cache(tmp_path: Path) -> None:
    assert list_entries(tmp_path) == []
    for i, text in enumerate(("", "[]", '{"features": 3}', '{"features": {"a": {}}}', "\\x00")):
        (tmp_path / "models" / f"m{i}").mkdir(parents=True)
        (tmp_path / "models" / f"m{i}" / "config.json").write_text(text)
    assert len(list_entries(tmp_path)) == 5


# ---------------------------------------------------------------------------------- the command


def gc(cache: Path, *arguments: str, code: int = 0, typed: str = "") -> str:
    done = CliRunner().invoke(command, ["gc", "--cache", str(cache), *arguments], input=typed)
    assert done.exit_code == code, done.output
    return done.stdout


def test_the_command_asks(cache: Path) -> None:
    said = gc(cache, "--older-than", "20", typed="n\n", code=1)
    assert f"feature set\t{SPARE}\t7 bytes\twritten 50 days ago" in said
    assert len(list_entries(cache)) == 4
    said = gc(cache, "--older-than", "20", typed="y\n")
    assert f"deleted feature set {SET}" in said and "deleted model knn-1" in said
    assert len(list_entries(cache)) == 1


def test_a_model_that_scored_is_as_young_as_its_last_use(cache: Path) -> None:
    model = ModelFolder.named(cache, "knn-1")
    mark_used(model.path)
    ages = {entry.name: entry.days(time.time()) for entry in list_entries(cache)}
    assert ages["knn-1"] < 1 and ages[SET] < 1 and ages[SPARE] > 49
    assert time.time() - model.written() > 29 * DAY, "it was trained when it was"
    mark_used(cache / "gone")  # a folder that cannot be marked stops nothing


def test_the_command_lists_only(cache: Path) -> None:
    assert "in all 3 folders" in gc(cache, "--older-than", "20", "--dry-run")
    facts = json.loads(gc(cache, "--older-than", "20", "--dry-run", "--json"))
    assert {each["name"] for each in facts["old"]} == {SET, SPARE, "knn-1"}
    assert facts["deleted"] == [] and len(list_entries(cache)) == 4


def test_the_command_as_json_needs_an_answer(cache: Path) -> None:
    gc(cache, "--older-than", "20", "--json", code=2)
    facts = json.loads(gc(cache, "--older-than", "20", "--json", "--yes"))
    assert sorted(facts["deleted"]) == sorted([SET, SPARE, "knn-1"]) and facts["left"] == {}
    facts = json.loads(gc(cache, "--older-than", "20", "--json"))  # nothing to ask about
    assert (facts["old"], facts["deleted"], facts["left"]) == ([], [], {})
    assert facts["counts"] == {"old": 0, "deleted": 0, "left": 0}


def test_the_command_says_what_stays(cache: Path) -> None:
    with writing([cache / "features" / SPARE]):
        said = gc(cache, "--older-than", "20", "--yes", code=1)
    assert f"{SPARE} stays: a run is writing to" in said
