"""Avenue: both versions of the labels, both archives, and counts that are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tests.one_class_sets import avenue_labels, mat_cells, write_avenue
from vadpipe.data_manifests import avenue
from vadpipe.data_manifests.intervals import frame_labels, from_labels, mask_labels
from vadpipe.data_manifests.record import Manifest, ManifestError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_avenue(tmp_path_factory.mktemp("avenue"))


def labelled(manifest: Manifest) -> list[np.ndarray]:
    return [
        frame_labels(r.anomalies or (), r.expected_frames or 0)
        for r in manifest.select(split="test").records
    ]


def test_masks_of_the_authors(root: Path) -> None:
    manifest = avenue.build(root)
    assert manifest.dataset == "avenue"
    for found, expected in zip(labelled(manifest), avenue_labels(), strict=True):
        np.testing.assert_array_equal(found, expected)
    record = manifest.select(split="test").records[7]
    assert (record.video_id, record.anomalies) == ("Test08", ((0, 36),))
    assert record.path == "Avenue Dataset/testing_videos/08.avi"
    assert record.masks is not None and len(mask_labels(manifest.resolve(record.masks))) == 36
    assert manifest.records[0].expected_frames is None  # nothing is opened


def test_labels_alone_make_records_without_paths(root: Path, tmp_path: Path) -> None:
    (tmp_path / "testing_label_mask").symlink_to(root / "ground_truth_demo" / "testing_label_mask")
    with pytest.raises(ManifestError, match="footage=false"):
        avenue.build(tmp_path)
    manifest = avenue.build(tmp_path, footage=False)
    assert {record.path for record in manifest.records} == {None} and len(manifest) == 37


def test_the_second_version_has_a_name_of_its_own(root: Path) -> None:
    labels = avenue_labels()
    labels[0][:155] = 1
    np.save(root / "frame_labels_avenue.npy", np.concatenate(labels)[None])
    manifest = avenue.build(root, labels="frame_labels")
    assert manifest.dataset == "avenue_frame_labels"
    assert sum(int(own.sum()) for own in labelled(manifest)) == 3867
    np.save(root / "frame_labels_avenue.npy", np.concatenate(avenue_labels()))
    with pytest.raises(ManifestError, match=r"found 3,712, the data set has 3,867"):
        avenue.build(root, labels="frame_labels")


def test_intervals_of_the_repackaged_archive(tmp_path: Path) -> None:
    for split, lengths in (("training", [3] * 16), ("testing", avenue.TEST_FRAMES)):
        for number, n in enumerate(lengths, start=1):
            clip = tmp_path / "avenue" / split / "frames" / f"{number:02d}"
            clip.mkdir(parents=True)
            for frame in range(n if n < 100 else 0):  # only the short ones
                (clip / f"{frame:04d}.jpg").write_bytes(b"x")
    gt = np.empty((1, 21), dtype=object)
    for place, own in enumerate(avenue_labels()):
        gt[0, place] = np.array([(a + 1, b) for a, b in from_labels(own)], np.float64).T
    savemat(tmp_path / "avenue" / "avenue.mat", {"gt": gt})
    manifest = avenue.build(tmp_path, labels="intervals", footage=False)
    assert manifest.dataset == "avenue"
    for found, expected in zip(labelled(manifest), avenue_labels(), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ManifestError, match=r"Test01: pictures in .* found 0"):
        avenue.build(tmp_path, labels="intervals")
    gt[0, 0] = np.array([[1.0], [2.0]])
    savemat(tmp_path / "avenue" / "avenue.mat", {"gt": gt})
    with pytest.raises(ManifestError, match="published versions have"):
        avenue.build(tmp_path, labels="intervals", footage=False)


def test_what_is_wrong_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="labels 'pixels'"):
        avenue.build(root, labels="pixels")  # type: ignore[arg-type]
    with pytest.raises(ManifestError, match="holds no masks"):
        avenue.build(tmp_path)
    write_avenue(tmp_path)
    masks = tmp_path / "ground_truth_demo" / "testing_label_mask"
    (tmp_path / "Avenue Dataset" / "testing_videos" / "03.avi").unlink()
    with pytest.raises(ManifestError, match=r"03\.avi is missing: get it"):
        avenue.build(tmp_path)
    assert len(avenue.build(tmp_path, subset=True)) == 36
    (masks / "8_label.mat").write_bytes(mat_cells("volLabel", [True] * 35))
    with pytest.raises(ManifestError, match=r"Test08: masks in .* found 35"):
        avenue.build(tmp_path, subset=True)


@pytest.mark.data
def test_the_published_masks(shared: Path) -> None:
    manifest = avenue.build(shared / "data" / "labels" / "avenue", footage=False)
    throughout = [r.video_id for r in manifest.records if r.anomalies == ((0, r.expected_frames),)]
    assert throughout == ["Test08", "Test18"]
