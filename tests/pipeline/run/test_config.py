from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vadpipe.pipeline.run.config import RunConfig, load_run
from vadpipe.pipeline.run.key_value import ConfigError

RECIPE = """
out = "result"
[manifest]
dataset = "synthetic"
root = "scene"
[[extract]]
name = "a"
extractor = "null"
[[extract]]
name = "b"
extractor = "null"
set = { stride = 8 }
[[train]]
detector = "knn"
features = { snippet = "a" }
grid = { k = [1, 2] }
[[train]]
name = "mil"
detector = "mil_ranking"
seeds = [0, 1]
[[fuse]]
name = "late"
scores = { mil = 1.0 }
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(RECIPE)
    return path


def test_relative_paths_are_relative_to_the_file(recipe: Path) -> None:
    config = load_run(recipe)
    assert config.out == recipe.parent / "result"
    assert config.manifest.root == recipe.parent / "scene"
    assert [s.label for s in config.train] == ["knn", "mil"]


def test_settings_reach_into_lists_by_name_and_number(recipe: Path) -> None:
    changes = ["extract.b.set.stride=4", "train.0.grid.k=[3]", "train.mil.seeds=[7]", "seed=3"]
    config = load_run(recipe, changes)
    assert config.extract[1].set == {"stride": 4}
    assert config.train[0].grid == {"k": [3]} and config.train[1].seeds == (7,)
    assert config.seed == 3


def test_a_setting_of_the_wrong_section_is_never_changed(recipe: Path) -> None:
    """A name is that of a section; a detector's name only where there is no other."""
    with pytest.raises(ConfigError, match="no section with keys"):
        load_run(recipe, ["train.detector=x"])
    with pytest.raises(ConfigError, match="no section with keys"):
        load_run(recipe, ["train.mil_ranking.seeds=[1]"])
    assert load_run(recipe, ["fuse.method=max"]).fuse[0].method == "max"  # a list of one


def test_a_single_table_is_a_list_of_one(recipe: Path) -> None:
    recipe.write_text(RECIPE.partition("[[train]]")[0] + '[train]\ndetector = "knn"\n')
    assert [s.detector for s in load_run(recipe).train] == ["knn"]


@pytest.mark.parametrize("change", ["out.x=1", "extract.c.set.stride=4", "train.9.seed=1"])
def test_a_section_that_is_not_there(recipe: Path, change: str) -> None:
    with pytest.raises(ConfigError, match="is no section"):
        load_run(recipe, [change])


def values(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "out": "x",
        "manifest": {"dataset": "synthetic", "root": "y"},
        "extract": [{"extractor": "null"}],
    }
    return base | changes


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"extract": []}, "nothing to do"),
        ({"extract": [{"extractor": "null"}, {"extractor": "null:x"}]}, "called null"),
        ({"train": [{"detector": "knn", "grid": {"k": []}}]}, "no values for k"),
        ({"train": [{"detector": "knn", "grid": {"k": [1]}, "set": {"k": 2}}]}, "write it once"),
        ({"train": [{"detector": "knn", "seeds": [1, 1]}]}, "twice"),
        ({"train": [{"detector": "knn", "name": "../x"}]}, "name"),
        ({"train": {"detector": "knn"}, "fuse": {"name": "knn", "scores": {"knn": 1}}}, "called"),
        ({"fuse": [{"name": "f", "scores": {}}]}, "scores"),
        ({"trian": []}, "trian"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises((ValidationError, ConfigError), match=match):
        RunConfig.model_validate(values(**changes))


def test_tracks_of_a_recipe_are_relative_to_its_file(recipe: Path) -> None:
    recipe.write_text(RECIPE + '[evaluate]\ntracks = "tracks.csv"\nmap = "patch/2x3"\n')
    config = load_run(recipe)
    assert config.evaluate.tracks == recipe.parent / "tracks.csv"
    assert (config.evaluate.map, config.evaluate.map_quantile) == ("patch/2x3", 0.98)
    recipe.write_text(RECIPE + "[evaluate]\nalso = [{ scored_only = true }]\n")
    assert [more.called for more in load_run(recipe).evaluate.also] == ["score@scored"]
    recipe.write_text(RECIPE + '[evaluate]\nalso = [{ column = "score" }]\n')
    with pytest.raises(ValidationError, match="'score' is measured anyway"):
        load_run(recipe)
