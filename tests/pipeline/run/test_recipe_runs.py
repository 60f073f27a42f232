"""Every recipe of docs/recipes runs: as committed, but for overrides that make it small.

The overrides are those of `vadpipe run --set`: another data set, small frames, a few steps. The
features and models lie in one cache, so two recipes that differ in their data set only share them.
"""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from vadpipe.data_manifests.synthetic import build, write_scene
from vadpipe.data_manifests.table import write_manifest
from vadpipe.detectors.msmg_settings import MSMGConfig
from vadpipe.pipeline.run.config import RunConfig, load_run
from vadpipe.pipeline.run.graph import trainings_of
from vadpipe.pipeline.run.run import run

RECIPES = sorted((Path(__file__).parents[3] / "docs" / "recipes").glob("*.toml"))
NETWORK = {"steps": 1, "batch_size": 2}
# Detector -> settings of a training of a moment. All that stand in a recipe have to be here.
DETECTORS: Mapping[str, Mapping[str, Any]] = {
    "motion_energy": {},
    "background": {},
    "flow_peak": {"cells": [4, 4]},
    "speed_peak": {},
    "knn": {},
    "attribute_density": {"block": 8},
    "mil_ranking": NETWORK,
    "rtfm": {**NETWORK, "width": 8},
    "ssrl": {**NETWORK, "width": 8},
    "msmg": {
        **NETWORK,
        **{"decoder_steps": 1, "validation_pairs": 2, "validate_every": 1, "stride": 8},
    },
    "ssmtl": {**NETWORK, "architecture": "shallow+narrow", "validation": 0, "block": 8},
    "pseudo_anomaly": {**NETWORK, "width": 3, "length": 8, "scored_frame": 4, "stride": 8},
}
# These learn from abnormal training videos too, the others from normal ones only.
WEAK = {"mil_ranking", "rtfm", "ssrl"}
# Encoder -> the same; I3D is replaced by the light one.
ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "cnn3d": {"architecture": "shallow+narrow"},
    "inception_i3d": {"encoder": "cnn3d", "architecture": "shallow+narrow"},
    "unet": {"encoder_width": 3},
    "memae": {"encoder_width": 3},
    "mnad": {"encoder_width": 3},
    "multipath_gru": {"encoder_width": 3},
}
SMALL = {"size": [16, 16]}
CLIPS = {"clip_length": 8, "stride": 8}
GRIDS = {"frame_size": [64, 96], "patch_sizes": [[32, 32], [21, 19], [16, 13]]}  # 2x3, 3x5, 4x7
BOXES = {"detector": "boxes", "crop_context": 20, "stride": 10, "crop_size": 16}
TEACHER = {"teacher": "efficientnet_lite0", "teacher_size": 32}
LENGTHS = {"train.length.grid.weights": [[1, 0, 0], [1, 1, 1]], "train.length.grid.length": [8, 16]}
TASKS = {"train.tasks.grid.weights": [[0, 1, 0], [1, 0, 1]]}
WEIGHTS = {"train.msmg.grid.weights": [[1.0, 0.1, 0.1], [1.0, 1.0, 1.0]]}
ONE_SEED = {"train.msmg.seeds": [0]}
SHOTS = {"train.adapted.shots": [1, 2]}
SCALES = {"train.all.seeds": [0], "train.table_3.grid.scales": [[], ["2x3", "4x7"]]}
KNN = {
    **{f"train.{name}.grid.k": [1] for name in ("whole", "patches")},
    **{"train.bank.seeds": [0], "train.bank.grid.bank_size": [6]},
}
OBJECTIVES = {
    f"train.{name}.grid.weights": [[0, 0, 0], [1, 1, 1]]
    for name in ("unet", "memae", "mnad", "multipath_gru")
}
# Recipe -> further keys; a grid or list that is long or needs more footage keeps its ends.
SHORTER: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("msmg_avenue", "msmg_shanghaitech"), ONE_SEED),
    **dict.fromkeys(("msmg_lengths_shanghaitech", "msmg_lengths_campus"), LENGTHS),
    **dict.fromkeys(("msmg_tasks_shanghaitech", "msmg_tasks_campus"), TASKS),
    **dict.fromkeys(("msmg_weights_avenue", "msmg_weights_shanghaitech"), WEIGHTS),
    **dict.fromkeys(("msmg_encoders_avenue", "msmg_encoders_shanghaitech"), OBJECTIVES),
    "msmg_encoders": OBJECTIVES,
    "msmg_ped2": {
        **TASKS,
        "train.length.grid.length": [16],
        "train.position.grid.position": ["time_channel"],
        "train.gain.grid.motion_gain": [1],
    },
    **dict.fromkeys(("msmg_shots_ped2", "msmg_shots_avenue"), SHOTS),
    **dict.fromkeys(("ssrl_ucf_crime", "ssrl_shanghaitech"), SCALES),
    "ssrl_ped2": {
        **{"train.rtfm.seeds": [0], "train.ssrl.seeds": [0], "extract.frame.weights": "random:0"},
        # as wide as the patches beside it
        "extract.frame.extractor": "inception_i3d",
        "extract.frame.set": {**CLIPS, "resize": GRIDS["frame_size"]},
    },
    "knn_ped2": KNN,
    "ssmtl_proxy": {
        "train.ssmtl.grid.t": [1, 2],
        "train.ssmtl.grid.distillation_weight": [0.1, 1.0],
    },
    "pseudo_anomaly_shares": {
        "train.frames.seeds": [0, 1],
        "train.flow.seeds": [0],
        "train.frames.grid.p_s": [0.0, 0.5],
        "train.flow.grid.p_t": [0.0, 0.5],
    },
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn scenes, their manifests without masks, and a cache that all recipes share.

    In the third manifest an abnormal video of the first scene is one to train on.
    """
    path = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("a", "b")):
        scene = write_scene(path / name, seed=seed, size=(48, 64), n_train=2, n_test=2, frames=60)
        made = build(scene)
        records = [r.model_copy(update={"masks": None, "tracks": None}) for r in made.records]
        made = made.model_copy(update={"records": tuple(records)})
        write_manifest(made, path / f"{name}.parquet")
        if name == "a":
            last = {"split": "train", "label": 1, "anomalies": None}
            weak = (*records[:-1], records[-1].model_copy(update=last))
            write_manifest(made.model_copy(update={"records": weak}), path / "weak.parquet")
    return path


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def smaller_features(section: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """What replaces keys of an `[[extract]]` section."""
    kind = section["extractor"].partition(":")[0]
    if kind in ("frames", "flow"):
        return {"set.size": SMALL["size"]}
    if kind == "perturb":  # without the weights of a published in-painter
        return {"extractor": "perturb:patch_mix", "set": SMALL, "weights": "none"}
    if kind == "inception_i3d":
        return {"extractor": "null", "set": CLIPS}
    if kind == "i3d_r50":  # as wide as the patches beside it
        network = {"set": {**CLIPS, "resize": GRIDS["frame_size"]}, "weights": "random:0"}
        return {"extractor": "inception_i3d", **network}
    if kind == "patch_cubes":
        return {"extractor": kind, "set": {**GRIDS, **CLIPS}, "weights": "random:0"}
    assert kind == "objects", f"say how {kind} is made small"
    weights = {"detector": str(root / "a" / "boxes.csv"), "teacher": "random:0"}
    if "flow" in section["set"]:  # an attribute or a baseline looks at tracks, at no crop
        boxes = {"detector": "boxes", "stride": 2, "flow": section["set"]["flow"]}
        return {"extractor": kind, "set": boxes, "weights": str(root / "a" / "boxes.csv")}
    return {"set": {**BOXES, **TEACHER}, "weights": weights}


def overrides(path: Path, root: Path) -> list[str]:
    """The `--set` values of a recipe."""
    recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    weak = {section["detector"] for section in recipe["train"]} <= WEAK
    listed = root / ("weak.parquet" if weak else "a.parquet")
    found: dict[str, Any] = {"manifest": {"file": str(listed)}}
    if recipe["manifest"]["dataset"] == "cross":
        files = {"train": "a.parquet", "test": "b.parquet"}
        options = {**recipe["manifest"]["options"], **files}
        found = {"manifest.root": str(root), "manifest.options": options}
    found |= {"out": str(root / path.stem), "cache": str(root / "cache"), "max_bytes": 10**9}
    found |= {"evaluate.bootstrap": 0, "engine.threads": 1}
    for section in recipe["extract"]:
        name = section.get("name", section["extractor"])
        for key, value in smaller_features(section, root).items():
            found[f"extract.{name}.{key}"] = value
    for section in recipe["train"]:
        assert section["detector"] in DETECTORS, f"say how {section['detector']} is made small"
        settings = dict(DETECTORS[section["detector"]])
        if section["detector"] == "msmg":
            settings |= ENCODERS[section.get("set", {}).get("encoder", "cnn3d")]
        for key, value in settings.items():
            found[f"train.{section.get('name', section['detector'])}.set.{key}"] = value
    found |= SHORTER.get(path.stem, {})
    return [f"{key}={toml(value)}" for key, value in found.items()]


def toml(value: Any) -> str:
    """A value as it stands in a TOML file."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


def rows_of(config: RunConfig) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name of each row of the table -> its detector and settings."""
    return {
        cell.name: (section.detector, dict(cell.settings))
        for section in config.train
        for cell in trainings_of(section, config.seed)
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_and_writes_its_table(path: Path, root: Path) -> None:
    committed, config = load_run(path), load_run(path, overrides(path, root))
    assert [s.label for s in config.train] == [s.label for s in committed.train]
    assert committed.out.resolve() == path.parents[2] / "runs" / path.stem
    done = run(config)
    assert not [f"{ended.node.name}: {ended.error}" for ended in done.errors]
    assert not done.failures
    with (root / path.stem / "results.csv").open() as handle:
        table = {row["name"]: row for row in csv.DictReader(handle)}
    wanted = rows_of(config)
    assert list(table) == list(wanted)
    measured = [more.called for more in committed.evaluate.also]
    for name, (detector, settings) in wanted.items():
        row = table[name]
        assert row["detector"] == detector
        for column in ("micro_auc", "macro_auc_padded", "macro_auc_valid", "average_precision"):
            assert 0 <= float(row[column]) <= 1
        filled = {each for each in measured if row[f"macro_auc_padded@{each}"]}
        assert filled == {each for each in measured if row[f"micro_auc@{each}"]}
        if detector == "msmg":
            readings = MSMGConfig.model_validate(settings).readings
            read = {"score", "paper", *readings, *(f"{each}_paper" for each in readings)}
            assert filled == {each for each in measured if each.partition("@")[0] in read}


def test_every_recipe_has_been_run() -> None:
    folder = Path(__file__).parents[3] / "docs" / "recipes"
    assert {path.name for path in RECIPES} == {each.name for each in folder.iterdir()}
    assert set(SHORTER) <= {path.stem for path in RECIPES}
