"""Scenes of footage from folders and names: what matches, what does not, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.data_manifests.footage import build
from vadpipe.data_manifests.record import ManifestError
from vadpipe.data_manifests.scenes import scene_lines, scenes_of
from vadpipe.data_manifests.several import FootageFolder, build_several
from vadpipe.data_manifests.table import read_manifest, write_manifest


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def scenes(manifest) -> dict[str, str | None]:
    return {record.path: record.scene for record in manifest.records}


def test_the_first_folder_below_the_root_is_the_camera(tmp_path: Path) -> None:
    touch(tmp_path, "gate/2024/05/a.mp4", "gate/b.avi", "Hof 3/c.mkv", "loose.mp4")
    manifest = build(tmp_path, scene_from="folder")
    assert scenes(manifest) == {
        "gate/2024/05/a.mp4": "gate",
        "gate/b.avi": "gate",
        "Hof 3/c.mkv": "Hof 3",
        "loose.mp4": None,
    }
    assert scene_lines(manifest) == [
        "2 scenes: gate (2 videos), Hof 3 (1 video)",
        "no scene is named by 1 video: loose.mp4",
    ]
    write_manifest(manifest, tmp_path / "m.csv")
    assert scenes(read_manifest(tmp_path / "m.csv")) == scenes(manifest)


def test_an_expression_finds_the_camera_in_the_path(tmp_path: Path) -> None:
    touch(tmp_path, "2024/cam07_1200.mp4", "2024/cam12_1200.mp4", "2024/other.mp4")
    manifest = build(tmp_path, scene_from="cam([0-9]+)_", train_fraction=0.5)
    found = {record.video_id: record.scene for record in manifest.records}
    assert found["2024__cam07_1200.mp4.train"] == found["2024__cam07_1200.mp4.test"] == "07"
    assert found["2024__other.mp4.test"] is None
    assert scene_lines(manifest)[0] == "2 scenes: 07 (1 video), 12 (1 video)", "files count once"


def test_scenes_are_those_below_each_of_several_folders(tmp_path: Path) -> None:
    touch(tmp_path, "quiet/gate/a.mp4", "quiet/yard/b.mp4", "new/gate/c.mp4")
    manifest = build_several(
        [FootageFolder(tmp_path / "quiet", "train", 0), FootageFolder(tmp_path / "new", "test")],
        scene_from="folder",
    )
    assert scenes(manifest) == {
        "quiet/gate/a.mp4": "gate",
        "quiet/yard/b.mp4": "yard",
        "new/gate/c.mp4": "gate",
    }


def test_without_a_rule_there_is_no_scene(tmp_path: Path) -> None:
    manifest = build(touch(tmp_path, "gate/a.mp4"))
    assert scenes(manifest) == {"gate/a.mp4": None} and scene_lines(manifest) == []


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("cam[0-9]+", "has 0 groups"),
        ("(cam)([0-9]+)", "has 2 groups"),
        ("cam([0-9", "is no regular expression"),
        ("door([0-9]+)", r"none of 1 videos matches 'door\(\[0-9\]\+\)'"),
        ("(x*)", "none of 1 videos matches"),
        (3, "must be a text"),
    ],
)
def test_rules_that_say_nothing_are_refused(tmp_path: Path, rule, message: str) -> None:
    touch(tmp_path, "gate/a.mp4")
    with pytest.raises(ManifestError, match=message):
        build(tmp_path, scene_from=rule)


def test_a_flat_folder_has_no_folders_of_cameras(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="none of 1 videos lies in a folder below"):
        build(touch(tmp_path, "a.mp4"), scene_from="folder")


@given(st.text(min_size=1, max_size=20), st.lists(st.text(min_size=1, max_size=20), max_size=5))
def test_any_text_is_a_rule_or_a_clear_error(text: str, paths: list[str]) -> None:
    try:
        found = scenes_of(paths, text)
    except ManifestError:
        return
    assert list(found) == list(dict.fromkeys(paths))
    assert all(scene is None or scene.strip() for scene in found.values())
