"""The recipe of the demo: both branches are there, and their features are what detectors read."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.pipeline.models import make_detector
from vadpipe.pipeline.run.config import RunConfig, load_run
from vadpipe.pipeline.run.graph import plan
from vadpipe.pipeline.run.resolved import Resolved, specs_of
from vadpipe.pipeline.store.probe_table import Probed


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    text = files("vadpipe.pipeline.run").joinpath("demo.toml").read_text(encoding="utf-8")
    (tmp_path / "demo.toml").write_text(text, encoding="utf-8")
    changes = [f"cache={tmp_path / 'cache'}", "extract.patches.weights=random:0"]
    return load_run(tmp_path / "demo.toml", changes)


def test_patches_and_objects_each_come_to_a_page(config: RunConfig) -> None:
    records = [
        VideoRecord(video_id=split, path=f"{split}.mp4", split=split) for split in ("train", "test")
    ]
    manifest = Manifest(dataset="synthetic", root="/none", records=tuple(records))
    nodes = plan(Resolved(config, manifest, Probed({}), specs_of(config)))
    kinds = ("train", "score", "report")
    assert {node.name for node in nodes} == {
        *("extract-patches", "extract-moving"),
        *(f"{kind}-{name}" for kind in kinds for name in ("knn", "objects")),
    }


def test_motion_boxes_have_what_each_attribute_reads(config: RunConfig) -> None:
    """Motion knows no classes; speed and direction need flow in the boxes."""
    spec = specs_of(config)["moving"]
    roles = {array.role for array in spec.make().arrays}
    assert not spec.weights and {"object/boxes", "object/flow", "frame/size"} <= roles
    (section,) = (train for train in config.train if train.label == "objects")
    detector = make_detector(section.detector, section.set)
    assert detector.config.attributes == ("speed", "direction", "place", "size", "stay")
    assert "object/classes" not in roles and detector.config.motion == "objects"
