"""Trainings that start from another one of the same run, and learn from few videos of a split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from vadpipe.data_manifests.errors import VadpipeError
from vadpipe.data_manifests.record import ManifestError
from vadpipe.data_manifests.synthetic import build, write_scene
from vadpipe.data_manifests.table import write_manifest
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.run.config import RunConfig
from vadpipe.pipeline.run.graph import Node, plan
from vadpipe.pipeline.run.key_value import ConfigError
from vadpipe.pipeline.run.resolved import resolve_run
from vadpipe.pipeline.run.run import run

SMALL = {
    **{"architecture": "shallow+narrow", "steps": 1, "batch_size": 2, "stride": 8},
    **{"validation_pairs": 2, "validate_every": 1},
}
SOURCE: dict[str, Any] = {"name": "source", "detector": "msmg", "set": SMALL}
ADAPTED: dict[str, Any] = {
    **{"name": "adapted", "detector": "msmg", "set": SMALL, "holdout": 0},
    **{"init": "source", "split": "validation", "shots": [1, 2]},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adaptation")
    for seed, name in enumerate(("a", "b")):
        scene = write_scene(path / name, seed=seed, size=(48, 64), n_train=2, n_test=1, frames=40)
        write_manifest(build(scene), path / f"{name}.parquet")
    return path


def recipe(root: Path, *train: dict[str, Any], **changes: Any) -> RunConfig:
    options = {"train": "a.parquet", "test": "b.parquet", "adaptation": True}
    return RunConfig.model_validate(
        {
            **{"out": root / "out", "cache": root / "cache", "max_bytes": 10**8},
            "manifest": {"dataset": "cross", "root": root, "options": options},
            "extract": [{"name": "small", "extractor": "frames", "set": {"size": [16, 16]}}],
            "train": list(train),
            "evaluate": {"bootstrap": 0},
            "report": {"scores": []},
            "engine": {"threads": 1},
            **changes,
        }
    )


def nodes(root: Path, *train: dict[str, Any], **changes: Any) -> dict[str, Node]:
    resolved = resolve_run(recipe(root, *train, **changes), write=False)
    return {node.name: node for node in plan(resolved)}


def test_a_model_of_one_data_set_is_adapted_with_clips_of_the_other(root: Path) -> None:
    threads = torch.get_num_threads()
    try:
        done = run(recipe(root, SOURCE, ADAPTED))
    finally:
        torch.set_num_threads(threads)
    assert not done.errors and not done.failures
    rows = {str(row["name"]): row for row in done.rows}
    assert list(rows) == ["source", "adapted-shots=1", "adapted-shots=2"]
    models = {name: ModelFolder.named(root / "cache", row["model"]) for name, row in rows.items()}
    cards = {name: model.card() for name, model in models.items()}
    assert cards["source"]["trained_on"]["videos"] == 2
    for shots in (1, 2):
        card = cards[f"adapted-shots={shots}"]
        assert card["init"] == cards["source"]["weights_sha256"]
        assert card["trained_on"]["videos"] == shots
        assert rows[f"adapted-shots={shots}"]["frames_per_second"] > 0
    assert len({card["weights_sha256"] for card in cards.values()}) == 3


def test_an_adaptation_needs_its_source_and_moves_with_it(root: Path) -> None:
    found = nodes(root, SOURCE, ADAPTED)
    adapted = found["train-adapted-shots=2"]
    assert adapted.needs == ("extract-small", "train-source") and adapted.start == "train-source"
    other = nodes(root, {**SOURCE, "set": {**SMALL, "lr": 1e-5}}, ADAPTED)
    assert other[adapted.name].key != adapted.key
    assert found["train-adapted-shots=1"].key != adapted.key
    assert found["train-source"].start == ""


def test_of_several_seeds_it_is_the_same_one(root: Path) -> None:
    seeds = {"seeds": [3, 4]}
    found = nodes(root, {**SOURCE, **seeds}, {**ADAPTED, **seeds, "shots": [1]})
    assert found["train-adapted-shots=1-s4"].start == "train-source-s4"
    named = nodes(root, {**SOURCE, **seeds}, {**ADAPTED, "init": "source-s3"})
    assert named["train-adapted-shots=1"].start == "train-source-s3"


def test_videos_of_split_train_are_learnt_from_unless_another_is_named(root: Path) -> None:
    plain = {**ADAPTED, "split": "train", "shots": None, "init": None}
    assert nodes(root, SOURCE, plain)["train-adapted"].needs == ("extract-small",)
    first = {**plain, "shots": [2]}  # all that there are: the same training but for its name
    one, all_ = nodes(root, SOURCE, first), nodes(root, SOURCE, plain)
    assert one["train-adapted-shots=2"].key == all_["train-adapted"].key


@pytest.mark.parametrize(
    ("train", "error", "said"),
    [
        ([SOURCE, {**ADAPTED, "shots": [3]}], ManifestError, "has 2 videos of split 'validation'"),
        ([SOURCE, {**ADAPTED, "split": "validaton"}], ManifestError, "it has: .*validation"),
        (
            [{**SOURCE, "grid": {"lr": [1e-3, 1e-4]}, "set": SMALL}, ADAPTED],
            ConfigError,
            "is several trainings: name one of",
        ),
        ([ADAPTED, SOURCE], VadpipeError, "source"),  # it comes later, and the cache has none
        ([SOURCE, {**ADAPTED, "init": "sorce"}], VadpipeError, "sorce"),
        (
            [SOURCE, {**ADAPTED, "set": {**SMALL, "stepps": 3}}],
            ValidationError,
            "no setting 'stepps'.*did you mean 'steps'",
        ),
    ],
)
def test_what_leads_nowhere_is_refused(
    root: Path, train: list[dict[str, Any]], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        nodes(root, *train, cache=root / "empty")


def test_one_number_of_shots_needs_no_list(root: Path) -> None:
    assert recipe(root, SOURCE, {**ADAPTED, "shots": 2}).train[1].shots == (2,)


def test_videos_that_are_scored_are_not_learnt_from(root: Path) -> None:
    with pytest.raises(ValidationError, match="adapted: split 'test' is scored"):
        recipe(root, SOURCE, {**ADAPTED, "split": "test"})
    other = recipe(root, SOURCE, {**ADAPTED, "split": "test"}, score={"split": "validation"})
    assert other.score.split == "validation"


@pytest.mark.parametrize("shots", [[], [0], [1, 1], 0])
def test_shots_are_different_numbers_above_zero(root: Path, shots: list[int]) -> None:
    with pytest.raises(ValidationError, match="shots"):
        recipe(root, SOURCE, {**ADAPTED, "shots": shots})
