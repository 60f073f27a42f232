from __future__ import annotations

from pathlib import Path

import pytest

from tests.one_class_sets import (
    STREET_SCENE,
    write_avenue,
    write_nwpu_campus,
    write_street_scene,
    write_ubnormal,
)
from tests.synthetic import (
    write_footage,
    write_pets2009,
    write_shanghaitech,
    write_tiny_scene,
    write_ucf_crime,
    write_ucsd_ped2,
    write_xd_violence,
)
from vadpipe import data_manifests
from vadpipe.data_manifests import Manifest, ManifestError, read_manifest, write_manifest
from vadpipe.data_manifests.counts import OFFICIAL
from vadpipe.data_manifests.plaza import write_plaza
from vadpipe.pipeline.registry import DATASETS


def _ped2(root: Path) -> Path:
    return write_ucsd_ped2(root, train=range(1, 17), test=range(1, 13), masks=False)


def _plaza(root: Path) -> Path:
    return write_plaza(root, size=(96, 144), frames=20, fps=2, n_train=1, n_validation=1, n_test=2)


def _cross(root: Path) -> Path:
    write_manifest(DATASETS["synthetic"](write_tiny_scene(root / "scene")), root / "scene.csv")
    return root


SETTINGS = {"cross": {"train": "scene.csv", "test": "scene.csv"}}  # what has no default
WRITERS = {
    "avenue": write_avenue,
    "cross": _cross,
    "footage": write_footage,
    "nwpu_campus": write_nwpu_campus,
    "pets2009": write_pets2009,
    "plaza": _plaza,
    "shanghaitech": write_shanghaitech,
    "street_scene": write_street_scene,
    "synthetic": write_tiny_scene,
    "ubnormal": write_ubnormal,
    "ucf_crime": write_ucf_crime,
    "ucsd_ped2": _ped2,
    "xd_violence": write_xd_violence,
}


def test_every_data_set_has_a_generator() -> None:
    assert WRITERS.keys() == DATASETS.keys()


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_data_set_is_listed_and_stored(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is true of all of them: real paths, unique names, and files that give it all back."""
    monkeypatch.setitem(OFFICIAL, "street_scene", STREET_SCENE)
    (tmp_path / "data").mkdir()
    settings = SETTINGS.get(name, {})
    manifest = DATASETS[name](WRITERS[name](tmp_path / "data"), **settings)
    assert isinstance(manifest, Manifest)
    assert manifest.dataset == ("synthetic-to-synthetic" if name == "cross" else name)
    assert len(manifest)
    for record in manifest.records:
        for path in filter(None, (record.path, record.masks, record.tracks)):
            assert manifest.resolve(path).exists()
        if record.split == "train":
            assert record.label in (0, 1)
            assert record.label == 1 or record.anomalies == ()
        if record.anomalies:  # PETS 2009 has frame labels of its training videos too
            assert record.label == 1
            assert record.split != "train" or name == "pets2009"
    for suffix in (".parquet", ".csv"):
        assert read_manifest(write_manifest(manifest, tmp_path / f"m{suffix}")) == manifest
    assert DATASETS[name](tmp_path / "data", **settings) == manifest


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_an_empty_or_missing_folder_is_an_error(name: str, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "gone"):
        with pytest.raises(ManifestError, match=str(root)):
            DATASETS[name](root, **SETTINGS.get(name, {}))


def test_all_names_are_there() -> None:
    assert all(hasattr(data_manifests, name) for name in data_manifests.__all__)
