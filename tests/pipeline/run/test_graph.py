from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.plugins import reread, write_distribution
from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests.errors import VadpipeError
from vadpipe.detectors.knn import KNN
from vadpipe.pipeline.run.config import RunConfig
from vadpipe.pipeline.run.graph import Node, plan
from vadpipe.pipeline.run.key_value import ConfigError
from vadpipe.pipeline.run.resolved import Resolved, resolve_run
from vadpipe.pipeline.store.errors import StoreError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    write_tiny_scene(path / "scene")
    return path


def recipe(root: Path, **changes: Any) -> RunConfig:
    base: dict[str, Any] = {
        "out": root / "out",
        "cache": root / "cache",
        "manifest": {"dataset": "synthetic", "root": root / "scene"},
        "extract": [
            {"name": "wide", "extractor": "null"},
            {"name": "dense", "extractor": "null", "set": {"stride": 8}},
        ],
        "train": [
            {"detector": "knn", "features": {"snippet": "wide"}, "grid": {"k": [1, 2]}},
            {"name": "near", "detector": "knn", "features": {"snippet": "dense"}, "seeds": [0, 1]},
        ],
        "fuse": [{"name": "late", "scores": {"near": 1.0, "knn-k=1": 0.5}}],
    }
    return RunConfig.model_validate(base | changes)


def nodes(root: Path, **changes: Any) -> dict[str, Node]:
    return {node.name: node for node in plan(resolve_run(recipe(root, **changes), write=False))}


def test_every_cell_and_seed_is_a_node(root: Path) -> None:
    found = nodes(root)
    cells = ["knn-k=1", "knn-k=2", "near-s0", "near-s1"]
    scored = [*cells, "late-s0", "late-s1"]
    expected = {"extract-wide", "extract-dense", "fuse-late-s0", "fuse-late-s1"}
    expected |= {f"{kind}-{cell}" for kind in ("train", "score") for cell in cells}
    expected |= {f"{kind}-{name}" for kind in ("evaluate", "report") for name in scored}
    assert set(found) == expected
    assert found["train-knn-k=2"].needs == ("extract-wide",)
    assert found["train-near-s1"].needs == ("extract-dense",)
    assert found["fuse-late-s1"].needs == ("score-near-s1", "score-knn-k=1")
    assert found["report-late-s1"].needs == ("fuse-late-s1", "evaluate-late-s1")


def test_needs_come_before(root: Path) -> None:
    before: set[str] = set()
    for name, node in nodes(root).items():
        assert before.issuperset(node.needs), name
        before.add(name)


def changed(root: Path, **changes: Any) -> set[str]:
    """Nodes whose key a change moves."""
    old, new = nodes(root), nodes(root, **changes)
    assert set(old) == set(new)
    return {name for name in old if old[name].key != new[name].key}


def test_a_change_moves_the_keys_of_what_depends_on_it_and_no_other(root: Path) -> None:
    dense = [
        {"name": "wide", "extractor": "null"},
        {"name": "dense", "extractor": "null", "set": {"stride": 4}},
    ]
    late = {f"{kind}-late-s{s}" for kind in ("fuse", "evaluate", "report") for s in (0, 1)}
    kinds = ("train", "score", "evaluate", "report")
    near = {f"{kind}-near-s{s}" for kind in kinds for s in (0, 1)}
    assert changed(root, extract=dense) == {"extract-dense"} | near | late
    weights = [{"name": "late", "scores": {"near": 2.0, "knn-k=1": 0.5}}]
    assert changed(root, fuse=weights) == late
    measured = {"align": "exact"}
    assert changed(root, evaluate=measured) == {
        name for name in nodes(root) if name.startswith(("evaluate", "report"))
    }
    assert changed(root, engine={"threads": 1}, out=root / "other") == set()


def test_events_move_scores_and_no_training(root: Path) -> None:
    moved = changed(root, score={"events": {"quantile": 0.98}})
    assert not {name for name in moved if name.startswith(("extract", "train"))}
    assert {name for name in nodes(root) if name.startswith("score")} <= moved


def test_another_video_moves_only_what_looks_at_it(root: Path) -> None:
    """A file of the test split that has changed trains nothing again."""
    resolved = resolve_run(recipe(root), write=False)
    video = resolved.scored().records[0].video_id
    rows = dict(resolved.probed.rows)
    rows[video] = type(rows[video])(**{**vars(rows[video]), "content_id": "s1-other"})
    probed = type(resolved.probed)(rows)
    other = Resolved(resolved.config, resolved.manifest, probed, resolved.specs)
    old, new = ({n.name: n.key for n in plan(r)} for r in (resolved, other))
    same = {name for name in old if old[name] == new[name]}
    assert same == {name for name in old if name.startswith(("extract", "train"))}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"fuse": [{"name": "f", "scores": {"nothing": 1}}]}, "there is no 'nothing'"),
        ({"fuse": [{"name": "f", "scores": {"knn": 1}}]}, "there is no 'knn'"),
        ({"report": {"scores": ["nothing"]}}, "there is no 'nothing'"),
        ({"train": [{"detector": "knn"}]}, "several feature sets have 'snippet'"),
        ({"train": [{"detector": "knn", "features": {"snipet": "wide"}}]}, "mean 'snippet'"),
        ({"train": [{"detector": "knn", "features": {"snippet": "wid"}}]}, "mean 'wide'"),
        (
            {
                "extract": [{"extractor": "frames"}, {"name": "wide", "extractor": "null"}],
                "train": [{"detector": "knn", "features": {"snippet": "frames"}}],
            },
            "that section has no 'snippet' features; these have: wide",
        ),
        (
            {
                "train": [
                    {"name": n, "detector": "knn", "features": {"snippet": "wide"}, "seeds": s}
                    for n, s in (("a", [0, 1]), ("b", [1, 2]))
                ],
                "fuse": [{"name": "f", "scores": {"a": 1, "b": 1}}],
            },
            "different seeds",
        ),
    ],
)
def test_names_that_lead_nowhere(root: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        nodes(root, **({"fuse": []} | changes))


def test_the_page_of_a_section_is_that_of_all_its_cells(root: Path) -> None:
    found = nodes(root, report={"scores": ["late", "knn-k=2"]})
    pages = {name for name in found if name.startswith("report")}
    assert pages == {"report-late-s0", "report-late-s1", "report-knn-k=2"}


PLUGIN = """
from vadpipe.data_manifests.errors import VadpipeError
from vadpipe.detectors.knn import KNN
class Mine(KNN):
    name = "mine"
"""


def test_another_version_of_a_plugin_is_trained_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = [{"detector": "mine", "features": {"snippet": "wide"}}]
    points, keys = {"vadpipe.detectors": {"mine": "plugin_graph:Mine"}}, []
    for version in ("1.0", "1.1"):
        write_distribution(tmp_path, "plugin-a", points, {"plugin_graph": PLUGIN}, version)
        monkeypatch.syspath_prepend(tmp_path)
        reread(monkeypatch)
        found = nodes(root, train=train, fuse=[])
        keys.append({name: node.key for name, node in found.items()})
        shutil.rmtree(tmp_path / f"plugin_a-{version}.dist-info")
    one, two = keys
    assert {name for name in one if one[name] == two[name]} == {"extract-wide", "extract-dense"}


CHAIN = [
    {"name": "small", "extractor": "frames", "set": {"size": [8, 12]}},
    {"name": "other", "extractor": "frames", "set": {"size": [6, 8]}},
    {"name": "wide", "extractor": "null", "from": ["small", "other"]},
]


def test_a_derived_feature_set_needs_its_source(root: Path) -> None:
    train = [{"detector": "knn", "features": {"snippet": "wide-other"}}]
    found = nodes(root, extract=CHAIN, train=train, fuse=[])
    assert found["extract-wide-small"].needs == ("extract-small",)
    assert found["train-knn"].needs == ("extract-wide-other",)
    moved = [{**CHAIN[0], "set": {"size": [8, 16]}}, *CHAIN[1:]]
    new = nodes(root, extract=moved, train=train, fuse=[])
    changes = {name for name in found if found[name].key != new[name].key}
    assert changes == {"extract-small", "extract-wide-small"}


def test_a_source_that_comes_later_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="put the section 'small' before it"):
        nodes(root, extract=[CHAIN[2], *CHAIN[:2]], train=[], fuse=[])
    with pytest.raises(StoreError, match="needs one feature set 'nothing'"):
        nodes(root, extract=[{"extractor": "null", "from": "nothing"}], train=[], fuse=[])


def test_a_twin_is_the_feature_set_of_perturbed_footage(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KNN, "twins", property(lambda _: {"odd": "snippet"}))
    noise = {"perturb": {"kind": "noise", "seed": 1}}
    extract = [
        {"name": "noisy", "extractor": "null", "set": noise},
        {"name": "plain", "extractor": "null"},
    ]
    changes: dict[str, Any] = {"train": [{"detector": "knn"}], "fuse": []}
    found = nodes(root, extract=extract, **changes)
    assert dict(found["train-knn"].features) == {"snippet": "plain", "odd": "noisy"}
    assert found["train-knn"].needs == ("extract-plain", "extract-noisy")
    again = [{**extract[0], "set": {"perturb": {"kind": "noise", "seed": 2}}}, extract[1]]
    moved = {n for n, node in nodes(root, extract=again, **changes).items() if node != found[n]}
    assert "extract-noisy" in moved and "train-knn" in moved and "extract-plain" not in moved


def test_features_of_a_grid_are_those_that_some_cell_asks_for(root: Path) -> None:
    patches = {"extractor": "patch_cubes:small", "weights": "random:0"}
    features = {"snippet": "null", "patch": "patch_cubes"}
    train = [{"detector": "knn", "grid": {"role": ["snippet", "patch"]}, "features": features}]
    found = nodes(root, extract=[{"extractor": "null"}, patches], train=train, fuse=[])
    assert dict(found["train-knn-role=snippet"].features) == {"snippet": "null"}
    assert found["train-knn-role=patch"].needs == ("extract-patch_cubes",)


def test_features_of_frames_are_not_those_of_objects_or_masks(root: Path) -> None:
    """Shapes of `perturb` and boxes of `objects` have roles "frame/..." of their own."""
    shapes = {"name": "odd", "extractor": "perturb:telea", "from": "frames"}
    boxes = {"extractor": "objects", "set": {"detector": "motion"}}
    clip = {"name": "clip", "extractor": "vifi_clip", "weights": "random:0"}
    extract = [
        {"extractor": "frames"},
        {**shapes, "set": {"shapes": "motion"}},
        boxes,
        {**clip, "from": ["frames", "odd"]},
    ]
    train = [{"name": "d", "detector": "pseudo_anomaly", "set": {"eta": [0, 0, 1]}}]
    found = nodes(root, extract=extract, train=train, fuse=[])["train-d"]
    assert dict(found.features) == {"frame": "clip-frames", "perturbed_frame": "clip-odd"}
    train[0]["features"] = {"perturbed_frame": "odd"}
    with pytest.raises(ConfigError, match="no 'frame' features; these have: clip-frames"):
        nodes(root, extract=extract, train=train, fuse=[])


def test_a_feature_set_is_of_the_split_of_its_source(root: Path) -> None:
    """Perturbed footage is for training: none of a test video is made."""
    chain = [{**CHAIN[0], "split": "train"}, *CHAIN[1:]]
    resolved = resolve_run(recipe(root, extract=chain, train=[], fuse=[]), write=False)
    assert resolved.config.splits() == {
        **{"small": "train", "wide-small": "train"},
        **{"other": None, "wide-other": None},
    }
    videos = resolved.extracted("wide-small")
    assert {record.split for record in videos.records} == {"train"}
    assert resolved.files(videos).rows.keys() == {record.video_id for record in videos.records}
    assert resolved.extracted("other") == resolved.manifest


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"extract": [{"extractor": "null", "split": "trian"}]},
            "set split of extract null; .*'train'",
        ),
        (
            {"extract": [{"name": "wide", "extractor": "null", "split": "test"}]},
            "'wide' is made of the videos of split 'test' only",
        ),
        (
            {
                "extract": [
                    {**CHAIN[0], "split": "train"},
                    {**CHAIN[2], "from": "small", "split": "test"},
                ]
            },
            "extract wide: split 'test', but small has the videos of split 'train' only",
        ),
    ],
)
def test_splits_that_lead_nowhere(root: Path, changes: dict[str, Any], match: str) -> None:
    train = [{"detector": "knn", "features": {"snippet": "wide"}}]
    if "trian" in str(changes):
        train = []
    with pytest.raises((VadpipeError, ValidationError), match=match):
        nodes(root, **({"train": train, "fuse": []} | changes))
