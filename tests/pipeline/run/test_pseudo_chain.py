"""The chain of the pseudo-anomaly system as one recipe."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import torch

from tests.synthetic import write_tiny_scene
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.run.config import load_run
from vadpipe.pipeline.run.graph import plan
from vadpipe.pipeline.run.resolved import resolve_run
from vadpipe.pipeline.run.run import Run, run
from vadpipe.pipeline.scores.folder import ScoreFolder

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
set = { size = [16, 32] }
[[extract]]
name = "motion"
extractor = "flow"
set = { size = [16, 32] }
[[extract]]
name = "odd"
extractor = "perturb:telea"
from = "small"
split = "train"
set = { size = [16, 32], seed = 0 }
[[extract]]
name = "looks"
extractor = "null"
from = ["small", "odd"]
set = { clip_length = 1, stride = 1, before = 0, after = 0 }
[[train]]
name = "all"
detector = "pseudo_anomaly"
set = { features = "snippet", width = 3, length = 8, scored_frame = 4, stride = 4, steps = 1 }
[evaluate]
bootstrap = 0
also = [
  { column = "paper" },
  { column = "omega_1", normalise = "video", scored_only = true },
  { column = "omega_4" },
]
[report]
scores = []
[engine]
threads = 1
"""


def one_run(recipe: Path) -> Run:
    """Run a recipe, and leave torch the threads that it had."""
    threads = torch.get_num_threads()
    try:
        return run(load_run(recipe))
    finally:
        torch.set_num_threads(threads)


def written(cache: Path) -> dict[Path, tuple[int, int]]:
    """Every shard of a cache -> its file and when that was written."""
    return {
        path.relative_to(cache): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in cache.glob("features/*/shards/**/*.h5")
    }


def test_the_whole_chain_runs_and_another_mask_seed_redoes_its_branch_only(
    tmp_path: Path,
) -> None:
    write_tiny_scene(tmp_path / "scene")
    recipe = tmp_path / "run.toml"
    recipe.write_text(RECIPE)
    done = one_run(recipe)
    assert not done.errors and not done.failures
    (model,) = (tmp_path / "cache" / "models").glob("pseudo_anomaly-*")
    card = ModelFolder(model).card()
    assert not [text for text in card.get("warnings", []) if "in another way" in text]
    assert {path.name for path in ModelFolder(model).samples.iterdir()} == {
        f"{part}-last.jpg" for part in ("spatial", "temporal")
    }
    assert set(card["features"]) == {"pixels", "flow", "snippet"}
    assert set(card["twins"]) == {"perturbed_pixels", "perturbed_snippet"}
    assert card["twins"]["perturbed_snippet"]["source"] == card["twins"]["perturbed_pixels"]
    scores = pq.read_table(tmp_path / "result" / "scores" / "all" / "scores.parquet")
    assert {"score", "paper", "omega_1", "omega_2", "omega_3"} <= set(scores.column_names)

    (row,) = done.rows
    assert {name for name in row if name.startswith("micro_auc")} == {
        *("micro_auc", "micro_auc@paper", "micro_auc@omega_1@video+scored")
    }
    for name in ("paper", "omega_1@video+scored"):
        metrics = ScoreFolder(tmp_path / "result/scores/all").metrics(name)
        assert metrics is not None and metrics["micro_auc"] == row[f"micro_auc@{name}"]
    (said,) = [e.done.lines for e in done.ended if e.done and e.node.kind == "evaluate"]
    assert said[-1] == "omega_4: there is no score column omega_4"

    def keys() -> dict[str, str]:
        resolved = resolve_run(load_run(recipe), write=False)
        return {node.name: node.key for node in plan(resolved)}

    before, shards = keys(), written(tmp_path / "cache")
    recipe.write_text(RECIPE.replace("seed = 0", "seed = 1"))
    after = keys()
    kept = {name for name in before if before[name] == after[name]}
    assert kept == {"extract-small", "extract-motion", "extract-looks-small"}

    again = one_run(recipe)
    assert not again.errors and not again.failures
    assert {ended.node.name: ended.state for ended in again.ended} == {
        name: "done" if name in kept else "ran" for name in before
    }
    later = written(tmp_path / "cache")
    assert all(later[path] == wrote for path, wrote in shards.items()), "nothing was written again"
    new = [path for path in later if path not in shards]
    # Another set of perturbed frames and one of what reads them; both of the training videos only.
    assert sorted({path.parts[1].split("-")[0] for path in new}) == ["null", "perturb"]
    assert len(new) == 2 * 2, "one shard a training video in each of the two sets"
