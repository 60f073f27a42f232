"""Street Scene: regions by picture, and what is wrong by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.one_class_sets import STREET_SCENE, write_street_scene
from vadpipe.data_manifests import street_scene
from vadpipe.data_manifests.counts import OFFICIAL
from vadpipe.data_manifests.record import ManifestError
from vadpipe.data_manifests.tracks import manifest_tracks


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(OFFICIAL, "street_scene", STREET_SCENE)
    return write_street_scene(tmp_path / "StreetScene").parent


def test_records_and_their_tracks(root: Path) -> None:
    manifest = street_scene.build(root)
    test = manifest.select(split="test").records
    assert len(manifest) == 81 and test[0].tracks == "Test/Test001/Test001_gt.txt"
    assert (test[0].anomalies, test[0].expected_frames) == (((1, 3),), 4)
    found = manifest_tracks(manifest, test)
    assert found is not None
    assert found.tracks["Test035"].box.tolist() == [[90, 45, 110, 55]] * 2


def test_what_is_wrong_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ManifestError, match="is not Street Scene"):
        street_scene.build(root / "none")
    clip = root / "StreetScene" / "Test" / "Test002"
    path = clip / "Test002_gt.txt"
    path.write_text("Test002/009.jpg 0 100 50 20 10\n")
    with pytest.raises(ManifestError, match=r"Test002_gt\.txt names frame 9 of 4"):
        street_scene.build(root)
    path.write_text("Test002/009.jpg 0 100 50 20\n")
    with pytest.raises(ManifestError, match=r"Test002_gt\.txt.*picture's name"):
        street_scene.build(root)
    path.unlink()
    with pytest.raises(ManifestError, match="has 0 files"):
        street_scene.build(root)
    path.write_text("")
    monkeypatch.undo()
    with pytest.raises(ManifestError, match="frames: found 92, the data set has 56,847"):
        street_scene.build(root)
    (root / "StreetScene" / "Train" / "Train046").rename(root / "gone")
    with pytest.raises(ManifestError, match="Train046 is missing"):
        street_scene.build(root)
    assert len(street_scene.build(root, subset=True)) == 80
    (root / "StreetScene" / "Train" / "Train999").mkdir()
    with pytest.raises(ManifestError, match="Train999 is no clip"):
        street_scene.build(root)
