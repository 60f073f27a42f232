"""The recipes of docs/recipes can be planned: settings, names and features fit together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bags import Bags
from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests.synthetic import build
from vadpipe.data_manifests.table import write_manifest
from vadpipe.detectors.base import Bag, Detector, DetectorError, Track
from vadpipe.detectors.msmg import MSMG
from vadpipe.detectors.msmg_training import Sizes
from vadpipe.detectors.ssmtl import SSMTL
from vadpipe.detectors.ssmtl_tracks import layout_of, teacher_roles
from vadpipe.extractors.base import ArraySpec
from vadpipe.extractors.networks.encoders import build_encoder
from vadpipe.pipeline.bags import has_role
from vadpipe.pipeline.models import make_detector
from vadpipe.pipeline.run.config import ExtractSection, ManifestSection, load_run
from vadpipe.pipeline.run.graph import Node, plan
from vadpipe.pipeline.run.resolved import Resolved, resolve_run

RECIPES = sorted((Path(__file__).parents[3] / "docs" / "recipes").glob("*.toml"))
TRIVIAL = {"frame_difference", "background"}  # a row that does not beat them has shown nothing
# (continuity, localisation, estimation) of Table 2 of MSMG, as they stand in a node's name
SUBSETS = ("1_0_0", "0_1_0", "0_0_1", "1_1_0", "1_0_1", "0_1_1")
OBJECTIVES = ("0_0_0", "0_0_1", "1_1_1")  # own, with estimation, with all (supplement, Table 2)
ENCODERS = TRIVIAL | {
    f"{encoder}-weights={weights}"
    for encoder in ("unet", "memae", "mnad", "multipath_gru")
    for weights in OBJECTIVES
}
LENGTHS = TRIVIAL | {
    f"length-weights={weights}-length={n}"
    for weights in ("1_0_0", "0_1_0", "0_0_1", "1_1_1")
    for n in (8, 12, 16)
}
TABLE_2 = {"prediction", "tasks_prediction", *(f"tasks-weights={w}" for w in (*SUBSETS, "1_1_1"))}
TABLE_3 = TRIVIAL | {"msmg-s0", "msmg-s1", "msmg-s2", "ssmtl", "estimation", "three"}
WEIGHTS = TRIVIAL | {  # Table 1 of the supplement, ID 1 to 16
    f"msmg-weights={each.replace(' ', '_')}"
    for each in (
        *("1.0 0.1 0.1", "1.0 0.5 0.1", "1.0 0.8 0.1", "1.0 1.0 0.1"),
        *("1.0 1.0 0.5", "1.0 1.0 0.8", "0.1 1.0 0.1", "0.5 1.0 0.1"),
        *("0.8 1.0 0.1", "0.1 0.1 1.0", "0.5 0.1 1.0", "0.8 0.1 1.0"),
        *("1.0 0.1 1.0", "1.0 0.5 1.0", "1.0 0.8 1.0", "1.0 1.0 1.0"),
    )
}
SHOTS = TRIVIAL | {"source", "adapted-shots=1", "adapted-shots=5"}
SSRL_ROWS = {  # Tables 3 to 6 of SSRL
    *(f"all-s{seed}" for seed in range(3)),
    *(f"table_3-scales={each}" for each in ("none", "2x3", "3x5", "4x7")),
    *(f"table_3-scales={each}" for each in ("2x3___3x5", "3x5___4x7", "2x3___4x7")),
    *("table_4", "table_5_dilated", "table_5_non_local", "shared"),
}
ROWS = {
    "attribute_density_ped2": TRIVIAL
    | {
        *("fastest_object", "chosen", "mixtures", "all-combine=sum", "all-combine=max"),
        *(f"one-attributes={a}" for a in ("speed", "direction", "place", "size", "class", "stay")),
    },
    "baselines_ped2": {
        *("frame_difference", "fastest_place", "fastest_object"),
        *("background-spread=false", "background-spread=true"),
    },
    "knn_ped2": TRIVIAL
    | {
        *(f"whole-k={k}" for k in (1, 3, 9)),
        *(f"patches-k={k}-positions={each}" for k in (1, 3, 9) for each in ("each", "all")),
        *(
            f"bank-bank={bank}-bank_size={size}-s{seed}"
            for bank in ("random", "kcenter")
            for size in (14, 29, 72, 144)
            for seed in range(3)
        ),
    },
    # Training has abnormal videos here: no trivial baseline may see them.
    "mil_ranking_ucf_crime": {
        *(f"ranking-s{seed}" for seed in range(3)),
        *(
            f"regularisers-sparsity_weight={a}-smooth_weight={b}"
            for a in ("0.0", "8e-05")
            for b in ("0.0", "8e-05")
        ),
    },
    "rtfm_shanghaitech": {*(f"rtfm-s{seed}" for seed in range(3)), "paper", "snippets", "ranking"},
    "ssrl_shanghaitech": SSRL_ROWS,
    "ssrl_ucf_crime": SSRL_ROWS,
    # Training has abnormal videos here too.
    "ssrl_ped2": {
        *(f"rtfm-s{seed}" for seed in range(3)),
        *(f"ssrl-branch_gain={gain}-s{seed}" for gain in (0.1, 1.0) for seed in range(3)),
    },
    "msmg_avenue": TABLE_3,
    "msmg_shanghaitech": TABLE_3,
    "msmg_lengths_shanghaitech": LENGTHS,
    "msmg_lengths_campus": LENGTHS,
    "msmg_tasks_shanghaitech": TRIVIAL | TABLE_2,
    "msmg_tasks_campus": TRIVIAL | TABLE_2,
    "msmg_ucf_crime": TRIVIAL | {"mnad", "multipath_gru", "msmg"},
    "msmg_campus": TRIVIAL
    | {"unet", "memae", "mnad", "multipath_gru"}
    | {f"msmg-scene_embedding={n}" for n in (0, 32)},
    "msmg_weights_avenue": WEIGHTS,
    "msmg_weights_shanghaitech": WEIGHTS,
    "msmg_encoders": ENCODERS,
    "msmg_encoders_avenue": ENCODERS,
    "msmg_encoders_shanghaitech": ENCODERS,
    "msmg_shots_ped2": SHOTS,
    "msmg_shots_avenue": SHOTS,
    "msmg_ped2": TRIVIAL
    | TABLE_2
    | {
        *("flow_peak", "joint"),
        *(f"length-length={n}" for n in (8, 16)),
        *(f"position-position={each}" for each in ("pooled", "time_channel")),
        *(f"gain-motion_gain={n}" for n in (1, 10)),
    },
    "msmg_objects": {"frame_difference", "background", "ssmtl", "estimation", "three"},
    "pseudo_anomaly_ped2": {
        *("frame_difference", "background", "flow_peak", "frames", "frames_telea"),
        *("frames_lntra-spatial=patch", "frames_lntra-spatial=skip_frames", "frames_patch_mix"),
        *("flow-p_t=0.0", "flow-p_t=0.5", "semantic", "all", "all_paper"),
    },
    "pseudo_anomaly_shares": TRIVIAL
    | {
        f"{part}-{share}={value}-s{seed}"
        for part, share in (("frames", "p_s"), ("flow", "p_t"))
        for value in ("0.0", "0.1", "0.2", "0.3", "0.4", "0.5")
        for seed in range(3)
    },
    "ssmtl_proxy": TRIVIAL
    | {
        f"ssmtl-t={t}-distillation_weight={share}"
        for t in (1, 2, 3, 4)
        for share in (0.1, 0.2, 0.5, 1.0)
    },
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_scene(tmp_path_factory.mktemp("recipes") / "scene", n_train=5)


def without_files(section: ExtractSection) -> ExtractSection:
    """The same features, of random weights."""
    if section.extractor.startswith("objects"):
        slots = ("detector", "teacher") if "teacher" in section.set else ("detector",)
        return section.model_copy(update={"weights": dict.fromkeys(slots, "random:0")})
    if section.weights or section.extractor.startswith(("inception_i3d", "patch_cubes")):
        return section.model_copy(update={"weights": "random:0"})
    return section


def planned(path: Path, scene: Path) -> tuple[Resolved, list[Node]]:
    """The trainings of a recipe, on a drawn scene and with random weights."""
    run = load_run(path)
    weightless = [without_files(section) for section in run.extract]
    options = {}
    if run.manifest.dataset == "cross":
        write_manifest(build(scene), scene / "scene.parquet")
        files = {"train": "scene.parquet", "test": "scene.parquet"}
        options = {**run.manifest.options, **files}
    dataset = "cross" if options else "synthetic"
    changes = {
        "manifest": ManifestSection(dataset=dataset, root=scene, options=options),
        "extract": tuple(weightless),
        "cache": scene.parent / "cache",
        "out": scene.parent / "out",
    }
    resolved = resolve_run(run.model_copy(update=changes), write=False)
    return resolved, [node for node in plan(resolved) if node.kind == "train"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_row_of_a_recipe_can_be_planned_and_has_what_it_reads(
    path: Path, scene: Path
) -> None:
    resolved, nodes = planned(path, scene)
    assert {node.subject for node in nodes} == ROWS[path.stem]
    for node in nodes:
        assert node.training is not None
        detector = make_detector(node.training.section.detector, node.training.settings)
        chosen = dict(node.features)
        for role in detector.needs:
            assert role in chosen, f"{node.subject}: no section extracts {role}"
            arrays = resolved.specs[chosen[role]].make().arrays
            assert has_role([array.role for array in arrays], role)
            check_sizes(detector, arrays)


def check_sizes(detector: Detector[Any], arrays: Iterable[ArraySpec]) -> None:
    """Refuse features that a fit would refuse.

    Raises:
        DetectorError: they have too little around objects, or do not fit the network.
    """
    if isinstance(detector, SSMTL):
        config = detector.config
        said = teacher_roles(config.imagenet_teacher) if "distillation" in config.chosen else ()
        layout_of(Bags([bag_of(arrays)]), config.level, config.context, said)
    if isinstance(detector, MSMG):
        config = detector.config
        (size,) = (array.shape[:2] for array in arrays if array.role == "pixels")
        seen = Sizes((size[0], size[1]), 0).input(config.side)
        assert not build_encoder(config.encoder, config.encoder_options).misfit(*seen)


def bag_of(arrays: Iterable[ArraySpec]) -> Bag:
    """A video with one row of each array."""
    one = np.arange(1)
    tracks = {
        str(array.role): Track(np.zeros((1, *array.shape), array.dtype), one, one + 1)
        for array in arrays
    }
    return Bag("v", None, 1, 25.0, tracks)


def test_crops_that_a_training_cannot_use_are_seen(scene: Path) -> None:
    resolved, nodes = planned(next(p for p in RECIPES if p.stem == "ssmtl_proxy"), scene)
    (longest,) = (n for n in nodes if n.subject == "ssmtl-t=4-distillation_weight=0.2")
    assert longest.training is not None
    detector = make_detector("ssmtl", longest.training.settings)
    spec = resolved.specs["object"]
    short = replace(spec, config={**spec.config, "crop_context": 15})
    check_sizes(detector, spec.make().arrays)
    with pytest.raises(DetectorError, match="hold 15 frames before and after, but 20 are needed"):
        check_sizes(detector, short.make().arrays)


def test_all_recipes_are_known() -> None:
    assert {path.stem for path in RECIPES} == set(ROWS)


def test_every_recipe_stands_on_the_page_of_recipes() -> None:
    docs = Path(__file__).parents[3] / "docs"
    listed = re.findall(r"\(recipes/(\w+)\.toml\)", (docs / "recipes.md").read_text("utf-8"))
    assert sorted(listed) == sorted(path.stem for path in RECIPES)
