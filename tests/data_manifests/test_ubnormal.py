"""UBnormal: both splits, frame labels from tracks, and what is wrong by name."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.one_class_sets import write_ubnormal, write_ubnormal_footage
from vadpipe.data_manifests import ubnormal
from vadpipe.data_manifests.record import ManifestError


def test_the_split_of_the_authors_without_footage(tmp_path: Path) -> None:
    manifest = ubnormal.build(write_ubnormal(tmp_path))
    counts = {s: len(manifest.select(split=s)) for s in ("train", "validation", "test")}
    assert counts == {"train": 268, "validation": 64, "test": 211}
    first = manifest.records[0]
    assert (first.video_id, first.scene, first.label) == ("normal_scene_1_scenario_0", "1", 0)
    abnormal = manifest.select(split="test", label=1).records
    assert {r.anomalies for r in abnormal} == {None} and {r.path for r in abnormal} == {None}


def test_footage_gives_paths_and_frame_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_ubnormal_footage(write_ubnormal(tmp_path))
    name = "abnormal_scene_9_scenario_269"
    folder = tmp_path / "footage" / "Scene9" / f"{name}_annotations"
    one_class = ubnormal.build(tmp_path, protocol="one_class", footage="footage")
    assert one_class.dataset == "ubnormal_one_class"
    assert len(one_class.select(split="train")) == 186 and len(one_class.select(split="test")) == 64
    test = one_class.select(split="test", label=1).records[0]
    assert test.anomalies == ((3, 8), (9, 10))
    assert test.path is not None and one_class.resolve(test.path).is_file()
    supervised = ubnormal.build(tmp_path, footage="footage")
    trained = supervised.select(split="train", label=1).records[0]
    assert trained.anomalies is None  # a label a video
    assert folder.parent.is_dir()
    held = supervised.select(split="validation", label=1).records[0].video_id
    place = next((tmp_path / "footage").rglob(f"{held}_annotations"))
    (place / f"{held}_new_tracks.txt").write_text("1,0,1\n")
    with caplog.at_level(logging.WARNING):
        assert ubnormal.build(tmp_path, footage="footage") == supervised
    assert held in caplog.text
    (place / f"{held}_tracks.txt").write_text("1,7\n")
    with pytest.raises(ManifestError, match=f"{held}_tracks.txt.*'1,7'"):
        ubnormal.build(tmp_path, footage="footage")
    next((tmp_path / "footage").rglob("normal_scene_1_scenario_0.mp4")).unlink()
    with pytest.raises(ManifestError, match="no video normal_scene_1_scenario_0"):
        ubnormal.build(tmp_path, footage="footage")


def test_wrong_lists(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="protocol 'weak'"):
        ubnormal.build(tmp_path, protocol="weak")  # type: ignore[arg-type]
    with pytest.raises(ManifestError, match="holds no lists"):
        ubnormal.build(tmp_path)
    write_ubnormal(tmp_path)
    path = tmp_path / "normal_test_video_names.txt"
    names = path.read_text()
    path.write_text(names.rpartition("\n")[0])
    with pytest.raises(ManifestError, match="test: normal videos: found 52, the data set has 53"):
        ubnormal.build(tmp_path)
    assert len(ubnormal.build(tmp_path, subset=True)) == 542
    path.write_text(names + "\nnormal_scene_1_scenario_0")
    with pytest.raises(ManifestError, match="in two lists"):
        ubnormal.build(tmp_path)
    path.write_text("../x\n")
    with pytest.raises(ManifestError, match=r"'\.\./x' is no normal video"):
        ubnormal.build(tmp_path)


@pytest.mark.data
def test_the_published_lists(shared: Path) -> None:
    manifest = ubnormal.build(shared / "data" / "labels" / "ubnormal")
    assert len({record.scene for record in manifest.records}) == 29
