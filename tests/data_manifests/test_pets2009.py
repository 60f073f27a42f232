"""PETS 2009: records without footage, labels of frames, and archives that are not what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.synthetic import write_pets2009
from vadpipe.data_manifests import pets2009
from vadpipe.data_manifests.intervals import frame_labels
from vadpipe.data_manifests.record import ManifestError


def change(path: Path, **arrays: Any) -> None:
    """Write an archive again with other arrays; None takes one away."""
    with np.load(path) as old:
        new = {**{k: old[k] for k in old.files}, **{f"0{k[1:]}": v for k, v in arrays.items()}}
    np.savez(path, **{k: v for k, v in new.items() if v is not None})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_pets2009(tmp_path)


def test_records(root: Path) -> None:
    manifest = pets2009.build(root)
    assert len(manifest) == 4 * (13 + 14)
    train, test = (manifest.select(split=split).records for split in ("train", "test"))
    assert [r.label for r in train[:13]] == [0] * 9 + [1] * 4
    assert [r.label for r in test[:14]] == [0] * 10 + [1] * 4
    assert {r.scene for r in manifest.records} == {f"view-00{v}" for v in (1, 2, 3, 4)}
    first, last = train[0], test[-1]
    assert first.video_id == "view-001.S0-train--Time-13-00"
    assert (first.path, first.expected_frames, first.anomalies) == (None, 32, ())
    assert (last.expected_frames, last.anomalies) == (16 * 15, ((10, 30),))


def test_names_of_the_release_and_a_subset_are_taken(root: Path) -> None:
    for path in root.glob("*-00[234].npz"):
        path.unlink()
    for split in ("train", "test"):
        path = root / f"pets2009-{split}-view-001.npz"
        path.rename(root / f"pets2009-comb-{split}-view-001.npz")
    with pytest.raises(ManifestError, match=r"train-view-002, .* missing.*ask for a subset"):
        pets2009.build(root)
    assert len(pets2009.build(root, subset=True)) == 27


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"_00_yf": np.zeros((3, 16), np.uint8)}, r"labels are \(3, 16\) for 2 snippets of 16"),
        ({"_00_yf": None}, "001.npz, 000: has no array 000_yf"),
        ({"_00_name": None}, "has no array 000_name"),
        ({"_00_name": np.array("../../etc")}, "is not the name of a scene"),
        ({"_00_name": np.array("S1-train--Time-13-01")}, "view-001.S1-.* is listed twice"),
        ({"_00_yf": np.full((2, 16), 2, np.uint8)}, "view-001.S0-.*must be 0 or 1"),
        ({"_12_x": None, "_12_yf": None, "_12_name": None}, "found 12, but the data set has 13"),
        ({"_00_x": np.array([[{}]], dtype=object)}, "cannot be read.*pickle"),
    ],
)
def test_archives_that_are_wrong(root: Path, arrays: dict[str, Any], match: str) -> None:
    change(root / "pets2009-train-view-001.npz", **arrays)
    with pytest.raises(ManifestError, match=match):
        pets2009.build(root)


def test_a_file_that_is_no_archive(root: Path) -> None:
    (root / "pets2009-test-view-002.npz").write_bytes(b"no zip")
    with pytest.raises(ManifestError, match=r"test-view-002.npz: cannot be read"):
        pets2009.build(root)


def test_too_large(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pets2009, "MAX_BYTES", 1000)
    with pytest.raises(ManifestError, match="bytes unpacked, more than 1,000: refused"):
        pets2009.build(root)


@pytest.mark.data
def test_real_archives(shared: Path) -> None:
    """Counted from the arrays themselves: 8 of 27 scenes are abnormal, alike in all views."""
    root = shared / "data" / "pets2009_i3d"
    manifest = pets2009.build(root)
    assert len(manifest) == 108
    for view in range(1, 5):
        for split, abnormal in (("train", 98 + 333 + 281 + 32), ("test", 252 + 231 + 126 + 67)):
            records = [
                r for r in manifest.select(split=split).records if r.scene == f"view-00{view}"
            ]
            assert sum(r.label or 0 for r in records) == 4
            labels = [frame_labels(r.anomalies or (), r.expected_frames or 0) for r in records]
            assert sum(int(part.sum()) for part in labels) == abnormal
            with np.load(root / f"pets2009-{split}-view-00{view}.npz") as arrays:
                truth = [arrays[f"{i:03d}_yf"].reshape(-1) for i in range(len(records))]
            assert all(np.array_equal(a, b) for a, b in zip(labels, truth, strict=True))
