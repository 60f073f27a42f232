"""The recipes of docs/recipes can be planned: settings, names and features fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.synthetic import write_tiny_scene
from vadpipe.pipeline.run.config import ExtractSection, ManifestSection, load_run
from vadpipe.pipeline.run.graph import plan
from vadpipe.pipeline.run.resolved import resolve_run

RECIPES = sorted((Path(__file__).parents[3] / "docs" / "recipes").glob("*.toml"))
# (continuity, localisation, estimation) of Table 2 of MSMG, as they stand in a node's name
SUBSETS = ("1_0_0", "0_1_0", "0_0_1", "1_1_0", "1_0_1", "0_1_1")
ROWS = {
    "msmg_encoders": {
        f"{encoder}-weights={weights}"
        for encoder in ("unet", "memae", "mnad", "multipath_gru")
        for weights in ("0_0_0", "0_0_1", "1_1_1")
    },
    "msmg_objects": {"frame_difference", "background", "ssmtl", "estimation", "three"},
    "msmg_shots": {"adapted"},
    "pseudo_anomaly_ped2": {
        *("frame_difference", "background", "flow_peak", "frames", "frames_telea"),
        *("frames_lntra-spatial=patch", "frames_lntra-spatial=skip_frames", "frames_patch_mix"),
        *("flow-p_t=0.0", "flow-p_t=0.5", "semantic", "all"),
    },
    "pseudo_anomaly_shares": {
        f"{part}-{share}={value}-s{seed}"
        for part, share in (("frames", "p_s"), ("flow", "p_t"))
        for value in ("0.0", "0.1", "0.2", "0.3", "0.4", "0.5")
        for seed in range(3)
    },
    "ssmtl_proxy": {
        f"ssmtl-t={t}-distillation_weight={share}"
        for t in (1, 2, 3, 4)
        for share in (0.1, 0.2, 0.5, 1.0)
    },
    "msmg_ped2": {
        *("frame_difference", "background", "flow_peak", "joint", "prediction"),
        *(f"tasks-weights={each}" for each in (*SUBSETS, "1_1_1")),
        *(f"length-length={n}" for n in (8, 12, 16)),
        *(f"position-position={each}" for each in ("pooled", "time_channel", "unpooled")),
    },
    "msmg_avenue": {
        *("joint-s0", "joint-s1", "joint-s2", "prediction"),
        *(f"tasks-weights={each}" for each in SUBSETS),
    },
    "msmg_shanghaitech": {f"length-length={n}" for n in (8, 12, 16)},
    "msmg_ucf_crime": {"frame_difference", "background", "joint"},
    "msmg_campus": {f"msmg-scene_embedding={n}" for n in (0, 32)},
    "msmg_weights": {
        f"msmg-weights={each.replace(' ', '_')}"
        for each in (
            *("1.0 0.1 0.1", "1.0 0.5 0.1", "1.0 0.8 0.1", "1.0 1.0 0.1"),
            *("1.0 1.0 0.5", "1.0 1.0 0.8", "0.1 1.0 0.1", "0.5 1.0 0.1"),
            *("0.8 1.0 0.1", "0.1 0.1 1.0", "0.5 0.1 1.0", "0.8 0.1 1.0"),
            *("1.0 0.1 1.0", "1.0 0.5 1.0", "1.0 0.8 1.0", "1.0 1.0 1.0"),
        )
    },
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_scene(tmp_path_factory.mktemp("recipes") / "scene")


def without_files(section: ExtractSection) -> ExtractSection:
    """The same features, of random weights."""
    if section.extractor.startswith("objects"):
        slots = ("detector", "teacher") if "teacher" in section.set else ("detector",)
        return section.model_copy(update={"weights": dict.fromkeys(slots, "random:0")})
    if section.weights or section.extractor == "inception_i3d":
        return section.model_copy(update={"weights": "random:0"})
    return section


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_row_of_a_recipe_can_be_planned(path: Path, scene: Path) -> None:
    run = load_run(path)
    weightless = [without_files(section) for section in run.extract]
    # a model to start from is looked for in the cache, and this one is empty
    begun = tuple(section.model_copy(update={"init": None}) for section in run.train)
    changes = {
        "train": begun,
        "manifest": ManifestSection(dataset="synthetic", root=scene),
        "extract": tuple(weightless),
        "cache": scene.parent / "cache",
        "out": scene.parent / "out",
    }
    nodes = plan(resolve_run(run.model_copy(update=changes), write=False))
    assert {node.subject for node in nodes if node.kind == "train"} == ROWS[path.stem]


def test_all_recipes_are_known() -> None:
    assert {path.stem for path in RECIPES} == set(ROWS)
