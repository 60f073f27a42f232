"""Runs of real nodes on a tiny scene; `null` features, so that a node takes milliseconds."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.synthetic import write_tiny_scene
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.null import NullFeatures
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.run import execute as execute_module
from vadpipe.pipeline.run import nodes as nodes_module
from vadpipe.pipeline.run.config import load_run
from vadpipe.pipeline.run.execute import chosen_nodes
from vadpipe.pipeline.run.graph import plan
from vadpipe.pipeline.run.key_value import ConfigError
from vadpipe.pipeline.run.listing import graph_values
from vadpipe.pipeline.run.nodes import NodeTask, is_done, run_node
from vadpipe.pipeline.run.resolved import resolve_run
from vadpipe.pipeline.run.run import Run, run, run_nodes
from vadpipe.pipeline.scores.events import EventConfig
from vadpipe.pipeline.store.most_missing import MOST_MISSING
from vadpipe.pipeline.threshold import fit_threshold

RECIPE = """
out = "result"
cache = "cache"
[manifest]
dataset = "synthetic"
root = "scene"
[[extract]]
name = "wide"
extractor = "null"
[[extract]]
name = "dense"
extractor = "null"
set = { stride = 8 }
[[train]]
name = "far"
detector = "knn"
features = { snippet = "wide" }
grid = { k = [1, 2] }
[[train]]
name = "near"
detector = "knn"
features = { snippet = "dense" }
[[fuse]]
name = "late"
scores = { near = 1.0, "far-k=1" = 0.5 }
[report]
scores = ["late"]
[engine]
threads = 1
"""
NODES = 2 + 3 * 3 + 2 + 1  # extract; train, score, evaluate; fuse, evaluate; report


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_tiny_scene(tmp_path / "scene")
    path = tmp_path / "run.toml"
    path.write_text(RECIPE)
    return path


def states(done: Run) -> Counter[str]:
    return Counter(ended.state for ended in done.ended)


def scores_of(folder: Path) -> dict[str, np.ndarray]:
    import pyarrow.parquet as pq

    return {
        str(path.relative_to(folder)): pq.read_table(path)["score"].to_numpy()
        for path in sorted(folder.glob("scores/*/scores.parquet"))
    }


def test_a_run_ends_with_scores_pages_and_a_table(recipe: Path) -> None:
    done = run(load_run(recipe))
    assert states(done) == {"ran": NODES} and not done.failures
    out = recipe.parent / "result"
    assert (out / "scores/late/report.html").is_file()
    with (out / "results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["name"] for row in rows] == ["far-k=1", "far-k=2", "near", "late"]
    assert all(0 <= float(row["micro_auc"]) <= 1 for row in rows)
    assert all(0 <= float(row["event_recall"]) <= 1 for row in rows)
    assert json.loads(rows[1]["settings"]) == {"k": 2}
    environment = json.loads((out / "environment.json").read_text())
    assert environment["cores"] >= 1 and "torch" in environment["versions"]
    assert json.loads((out / "recipe.json").read_text())["train"][0]["grid"] == {"k": [1, 2]}
    assert set(scores_of(out)) == {f"scores/{row['name']}/scores.parquet" for row in rows}


def test_a_second_run_does_nothing_and_a_change_only_what_depends_on_it(recipe: Path) -> None:
    run(load_run(recipe))
    assert states(run(load_run(recipe))) == {"done": NODES}
    tracks = next((recipe.parent / "scene" / "tracks").glob("*.csv"))
    tracks.write_text(tracks.read_text() + "\n")  # labels that the manifest only names
    relabelled = {e.node.name for e in run(load_run(recipe)).ended if e.state == "ran"}
    assert relabelled == {
        *("evaluate-far-k=1", "evaluate-far-k=2", "evaluate-near", "evaluate-late", "report-late"),
    }
    again = run(load_run(recipe, ["train.near.set.k=2"]))
    ran = {ended.node.name for ended in again.ended if ended.state == "ran"}
    assert ran == {
        *("train-near", "score-near", "evaluate-near"),
        *("fuse-late", "evaluate-late", "report-late"),
    }
    assert [row["name"] for row in again.rows] == ["far-k=1", "far-k=2", "near", "late"]


def test_a_threshold_that_is_kept_with_a_model_makes_its_events_again(recipe: Path) -> None:
    run(load_run(recipe))
    resolved = resolve_run(load_run(recipe))
    done = resolved.folder.done("train-near")
    assert done is not None and done.facts is not None
    model = ModelFolder.named(recipe.parent / "cache", done.facts["model"])
    fit_threshold(model.path, EventConfig(value=-1.0))
    again = run(load_run(recipe))
    ran = {ended.node.name for ended in again.ended if ended.state == "ran"}
    assert ran == {
        *("score-near", "evaluate-near", "fuse-late", "evaluate-late", "report-late"),
    }
    folder = resolved.folder.scores("near")
    assert folder.threshold() == -1.0 and folder.run()["threshold"]["rule"] == "value -1"
    assert states(run(load_run(recipe))) == {"done": NODES}
    named = run(
        load_run(recipe, ["score.events.quantile=0.9", "score.events.release_quantile=0.9"])
    )
    assert "score-near" in {e.node.name for e in named.ended if e.state == "ran"}
    assert folder.run()["threshold"]["rule"] == "quantile 0.9", "a recipe may name one itself"


def test_a_target_that_is_gone_is_made_again(recipe: Path) -> None:
    first = run(load_run(recipe))
    page = recipe.parent / "result/scores/late/report.html"
    page.unlink()
    again = run(load_run(recipe))
    assert [e.node.name for e in again.ended if e.state == "ran"] == ["report-late"]
    assert page.is_file() and len(again.ended) == len(first.ended)
    more = run(load_run(recipe, ["report.folder=true"]))
    assert [e.node.name for e in more.ended if e.state == "ran"] == ["report-late"]
    assert page.with_name("review").joinpath("index.html").is_file()
    resolved = resolve_run(load_run(recipe))
    shutil.rmtree(resolved.store("dense").root)
    listed = graph_values(resolved, plan(resolved))["nodes"]
    to_do = {node["name"] for node in listed if not node["done"]}
    again = run(load_run(recipe))
    assert {e.node.name for e in again.ended if e.state == "ran"} == to_do, "as a dry run says"
    assert {"extract-dense", "train-near", "report-late"} <= to_do
    assert "train-far-k=1" not in to_do


def test_a_failed_branch_stops_only_what_needs_it(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(task: NodeTask) -> Any:
        if task.node.name == "train-far-k=1":
            raise ConfigError("no luck")
        if task.node.name == "train-far-k=2":
            raise ZeroDivisionError("a fault of ours")
        return run_node(task)

    with monkeypatch.context() as patch:
        patch.setattr(execute_module, "run_node", broken)
        done = run(load_run(recipe))
    by_state = {
        state: {e.node.name for e in done.ended if e.state == state} for state in states(done)
    }
    assert by_state["failed"] == {"train-far-k=1", "train-far-k=2"}
    assert by_state["left out"] == {
        *("score-far-k=1", "evaluate-far-k=1", "fuse-late", "evaluate-late", "report-late"),
        *("score-far-k=2", "evaluate-far-k=2"),
    }
    assert "evaluate-near" in by_state["ran"]
    errors = {ended.node.name: ended.error for ended in done.errors}
    assert errors["train-far-k=1"] == "ConfigError: no luck"
    assert "unexpected" in errors["train-far-k=2"]
    text = (recipe.parent / "result/nodes/train-far-k=2.txt").read_text()
    assert "a fault of ours" in text
    mended = run(load_run(recipe))
    assert states(mended)["ran"] == 9 and not mended.errors


def test_a_section_says_how_many_training_videos_may_be_missing(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def train(*_: Any, max_missing: float, **__: Any) -> Any:
        asked.append(max_missing)
        raise ConfigError("enough")

    monkeypatch.setattr(nodes_module, "train_detector", train)
    for changes in ([], ["train.near.max_missing=0"]):
        resolved = resolve_run(load_run(recipe, changes))
        (node,) = [n for n in plan(resolved) if n.name == "train-near"]
        with pytest.raises(ConfigError, match="enough"):
            run_node(NodeTask(node, resolved, {}, "cpu", None))
    assert asked == [MOST_MISSING, 0]
    with pytest.raises(ValidationError, match="max_missing"):
        load_run(recipe, ["train.near.max_missing=1.5"])


def test_half_written_results_of_other_settings_are_not_done(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with other settings is killed after it has overwritten scores; then the first again."""
    first = scores_of(run(load_run(recipe)).folder.path)

    def killed(task: NodeTask) -> Any:
        done = run_node(task)
        if task.node.name == "score-near":
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patch:
        patch.setattr(execute_module, "run_node", killed)
        with pytest.raises(KeyboardInterrupt):
            run(load_run(recipe, ["train.near.set.k=2"]))
    again = run(load_run(recipe))
    ran = {ended.node.name for ended in again.ended if ended.state == "ran"}
    assert {"score-near", "evaluate-near", "fuse-late", "report-late"} <= ran
    for name, values in scores_of(again.folder.path).items():
        np.testing.assert_array_equal(values, first[name])


def test_a_feature_set_that_cannot_be_made_stops_no_other(recipe: Path) -> None:
    """Pixels are kept only within a limit, which this recipe does not state."""
    text = recipe.read_text().replace(
        "[[train]]", '[[extract]]\nextractor = "frames"\n[[train]]', 1
    )
    recipe.write_text(text)
    done = run(load_run(recipe))
    assert [e.node.name for e in done.ended if e.state == "failed"] == ["extract-frames"]
    assert states(done)["ran"] == NODES


def test_a_video_that_fails_for_one_feature_set_fails_for_no_other(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are computed in one pass over each video; one of them always fails."""
    extract = NullFeatures.extract

    def failing(self: NullFeatures, clips: Any) -> Any:
        if self.config.stride == 8:
            raise ExtractorError("not this one")
        return extract(self, clips)

    monkeypatch.setattr(NullFeatures, "extract", failing)
    ended = {e.node.name: e for e in run(load_run(recipe)).ended}
    wide, dense = (ended[f"extract-{name}"].done for name in ("wide", "dense"))
    assert wide is not None and not wide.failures
    assert dense is not None and len(dense.failures) == 4
    assert {f.message for f in dense.failures} == {"not this one"}
    assert ended["score-far-k=1"].state == "ran" and ended["train-near"].state == "failed"


def test_a_fusion_uses_the_columns_that_it_names(recipe: Path) -> None:
    recipe.write_text(
        recipe.read_text().replace("[report]", 'columns = { near = "score" }\n[report]')
    )
    (late,) = [e for e in run(load_run(recipe)).ended if e.node.name == "fuse-late"]
    assert late.node.columns == (("near", "score"),)
    with pytest.raises(ValidationError, match=r"'nea' is not fused here.*near"):
        load_run(recipe, ["fuse.late.columns.nea=score"])
    wrong = run(load_run(recipe, ["fuse.late.columns.near=nothing"]))
    assert "nothing" in {e.node.name: e.error for e in wrong.ended}["fuse-late"]


def test_only_some_nodes_and_what_they_need(recipe: Path) -> None:
    resolved = resolve_run(load_run(recipe))
    nodes = plan(resolved)
    names = [node.name for node in chosen_nodes(nodes, ["score-near"])]
    assert names == ["extract-dense", "train-near", "score-near"]
    about = {node.name for node in chosen_nodes(nodes, ["far-k=2"])}
    assert about == {"extract-wide", "train-far-k=2", "score-far-k=2", "evaluate-far-k=2"}
    assert chosen_nodes(nodes, []) == nodes
    with pytest.raises(ConfigError, match="there is no node 'nothing'"):
        chosen_nodes(nodes, ["nothing"])
    done = run_nodes(resolved, chosen_nodes(nodes, ["score-near"]))
    assert states(done) == {"ran": 3}
    every = {node.name for node in chosen_nodes(nodes, ["far"])}
    assert {"score-far-k=1", "score-far-k=2", "train-far-k=1"} <= every
    assert "extract-dense" not in every


def test_worker_processes_give_equal_results(recipe: Path) -> None:
    run(load_run(recipe))
    changes = ["out=other", "cache=other-cache", "engine.workers=2"]
    done = run(load_run(recipe, changes))
    assert states(done) == {"ran": NODES}
    ours, theirs = (scores_of(recipe.parent / name) for name in ("result", "other"))
    assert set(ours) == set(theirs)
    for name, values in ours.items():
        np.testing.assert_allclose(theirs[name], values, rtol=1e-6)


def test_a_feature_set_of_one_split_is_made_of_its_videos_only(recipe: Path) -> None:
    """Without the split the rest of it is to do; what was trained on it is done."""
    settings = ["extract.dense.split=train", "report.scores=[]", "fuse=[]"]
    config = load_run(recipe, settings)
    done = run_nodes(resolve_run(config), chosen_nodes(plan(resolve_run(config)), ["train-near"]))
    assert not done.errors
    resolved = resolve_run(config)
    contents = resolved.store("dense").index()["content_id"].to_pylist()
    train = resolved.files(resolved.manifest.select(split="train")).rows.values()
    assert set(contents) == {row.content_id for row in train}
    again = resolve_run(load_run(recipe, settings[1:]))
    nodes = {node.name: node for node in plan(again)}
    assert not is_done(again, nodes["extract-dense"]) and is_done(again, nodes["train-near"])


PERTURBED = """
out = "result"
cache = "cache"
max_bytes = 1_000_000
[manifest]
dataset = "synthetic"
root = "scene"
[[extract]]
name = "small"
extractor = "frames"
set = { size = [16, 24] }
[[extract]]
name = "inpainted"
extractor = "perturb:telea"
from = "small"
set = { size = [16, 24] }
[[extract]]
name = "wide"
extractor = "null"
from = ["small", "inpainted"]
[[extract]]
name = "motion"
extractor = "flow"
from = "small"
set = { size = [16, 24] }
[engine]
threads = 1
"""


def test_another_seed_of_masks_makes_the_perturbed_branch_again_and_no_other(
    recipe: Path,
) -> None:
    recipe.write_text(PERTURBED)
    names = {"small", "inpainted", "wide-small", "wide-inpainted", "motion"}
    first = run(load_run(recipe))
    assert {e.node.name for e in first.ended} == {f"extract-{name}" for name in names}
    assert states(first) == {"ran": len(names)} and not first.failures
    again = run(load_run(recipe, ["extract.inpainted.set.seed=1"]))
    ran = {ended.node.name for ended in again.ended if ended.state == "ran"}
    assert ran == {"extract-inpainted", "extract-wide-inpainted"}
    assert states(run(load_run(recipe))) == {"done": 3, "ran": 2}, "the cache has both seeds"
