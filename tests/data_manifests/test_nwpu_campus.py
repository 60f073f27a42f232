"""NWPU Campus: names in both splits, label vectors, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.one_class_sets import write_nwpu_campus
from vadpipe.data_manifests import nwpu_campus
from vadpipe.data_manifests.record import ManifestError


def test_records(tmp_path: Path) -> None:
    manifest = nwpu_campus.build(write_nwpu_campus(tmp_path))
    train, test = (manifest.select(split=s).records for s in ("train", "test"))
    assert (len(train), len(test), len({r.scene for r in train})) == (305, 242, 43)
    assert train[0].video_id == "train_D001_01" and train[0].path == "videos/Train/D001_01.avi"
    assert train[1].video_id == "D001_02" and {r.anomalies for r in train} == {()}
    by_id = {r.video_id: r for r in test}
    assert (by_id["D001_01"].anomalies, by_id["D001_01"].expected_frames) == ((), 20)
    assert (by_id["D002_50"].anomalies, by_id["D002_50"].label) == (((5, 9),), 1)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="is not NWPU Campus"):
        nwpu_campus.build(tmp_path)
    write_nwpu_campus(tmp_path)
    (tmp_path / "videos" / "Test" / "D002_50.avi").unlink()
    with pytest.raises(ManifestError, match="test videos: found 241"):
        nwpu_campus.build(tmp_path)
    assert len(nwpu_campus.build(tmp_path, subset=True)) == 546
    labels = tmp_path / "groundtruth" / "NWPU_Campus_gt.npz"
    np.savez(labels, D001_01=np.array([0, 2]))
    with pytest.raises(ManifestError, match=r"NWPU_Campus_gt\.npz.*0 or 1"):
        nwpu_campus.build(tmp_path, subset=True)
    np.savez(labels, D001_01=np.array([0, 1]))
    with pytest.raises(ManifestError, match="no labels of D"):
        nwpu_campus.build(tmp_path, subset=True)
    labels.write_bytes(b"no zip")
    with pytest.raises(ManifestError, match="not an archive of label vectors"):
        nwpu_campus.build(tmp_path, subset=True)
    labels.unlink()
    with pytest.raises(ManifestError, match="has no labels"):
        nwpu_campus.build(tmp_path, subset=True)
    (tmp_path / "videos" / "Train" / "cam.avi").write_bytes(b"")
    with pytest.raises(ManifestError, match="cam is no video"):
        nwpu_campus.build(tmp_path, subset=True)
