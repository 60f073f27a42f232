from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.synthetic import write_shanghaitech
from vadpipe.data_manifests.counts import count
from vadpipe.data_manifests.intervals import frame_labels
from vadpipe.data_manifests.record import Manifest, ManifestError, VideoRecord
from vadpipe.data_manifests.shanghaitech import build, read_list, read_mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_shanghaitech(tmp_path / "labels")


def by_id(manifest: Manifest) -> dict[str, VideoRecord]:
    return {r.video_id: r for r in manifest.records}


def pictures(folder: Path, n: int) -> None:
    folder.mkdir(parents=True)
    for i in range(n):
        Image.new("L", (2, 2)).save(folder / f"{i:03d}.jpg")


def test_the_weak_split(root: Path) -> None:
    manifest = build(root)
    assert (manifest.dataset, manifest.root) == ("shanghaitech", str(root))
    train, test = (manifest.select(split=s) for s in ("train", "test"))
    assert (len(train), len(test)) == (238, 199)
    assert (len(train.select(label=1)), len(test.select(label=1))) == (63, 44)
    videos = by_id(manifest)
    assert videos["02_0001"] == VideoRecord(
        video_id="02_0001",
        path=None,
        split="test",
        label=1,
        scene="02",
        expected_frames=380,
        anomalies=((20, 200),),
    )
    # An abnormal training video has a mask too, but only its length may be known.
    assert videos["07_0045"] == VideoRecord(
        video_id="07_0045", path=None, split="train", label=1, scene="07", expected_frames=380
    )
    assert videos["02_001"] == VideoRecord(
        video_id="02_001", path=None, split="test", label=0, scene="02", anomalies=()
    )


def test_the_one_class_split(root: Path) -> None:
    manifest = build(root, protocol="one_class")
    assert manifest.dataset == "shanghaitech_one_class"
    train, test = (manifest.select(split=s) for s in ("train", "test"))
    assert (len(train.select(label=0)), len(test.select(label=1))) == (330, 107)
    assert (len(train), len(test)) == (330, 107)
    assert by_id(manifest)["07_0045"].anomalies == ((20, 168),)


def test_both_splits_are_of_the_same_videos(root: Path) -> None:
    weak, one_class = build(root), build(root, protocol="one_class")
    assert by_id(weak).keys() == by_id(one_class).keys()
    for video_id, record in by_id(weak).items():
        other = by_id(one_class)[video_id]
        assert (record.label, record.scene) == (other.label, other.scene)
        assert record.expected_frames == other.expected_frames


def test_masks_may_lie_in_testing(root: Path) -> None:
    before = build(root)
    (root / "testing").mkdir()
    (root / "test_frame_mask").rename(root / "testing/test_frame_mask")
    assert build(root) == before


def test_an_unknown_protocol_is_an_error(root: Path) -> None:
    with pytest.raises(ManifestError, match="protocol 'strong': there are weak, one_class"):
        build(root, protocol="strong")  # type: ignore[arg-type]


def test_a_missing_mask_is_named(root: Path) -> None:
    (root / "test_frame_mask/02_0001.npy").unlink()
    with pytest.raises(ManifestError, match="02_0001 has no frame mask"):
        build(root)
    with pytest.raises(ManifestError, match="abnormal videos: found 106, the data set has 107"):
        build(root, protocol="one_class")
    assert len(build(root, protocol="one_class", subset=True)) == 436


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("SH_Test.txt", "02_001\n", "02_002x\n", "'02_002x' is not an id like"),
        ("SH_Test.txt", "02_001\n", "../02_001\n", "is not an id like"),
        ("SH_Test.txt", "02_001\n", "02_0001\n", "02_0001 is listed twice"),
        ("SH_Test.txt", "02_001\n", "", "test: normal videos: found 154, the data set has 155"),
        ("SH_Train.txt", "07_0045,1", "02_0001,1", "02_0001 is in both splits"),
        ("SH_Train.txt", "07_0045,1", "07_0945,1", "07_0945 has no frame mask"),
    ],
)
def test_bad_lists(root: Path, file: str, old: str, new: str, message: str) -> None:
    path = root / file
    text = path.read_bytes().decode()
    assert text.count(old) == 1
    path.write_bytes(text.replace(old, new).encode())
    with pytest.raises(ManifestError, match=message):
        build(root)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((380, 2), np.uint8), "shape"),
        (np.full(380, 2, np.uint8), "0 or 1"),
        (np.zeros(0, np.uint8), "02_0001"),
        (np.array([None] * 380), "02_0001"),
    ],
)
def test_a_bad_mask_is_named(root: Path, labels: np.ndarray, message: str) -> None:
    np.save(root / "test_frame_mask/02_0001.npy", labels, allow_pickle=True)
    with pytest.raises(ManifestError, match=message) as caught:
        build(root)
    assert "02_0001" in str(caught.value)


def test_hostile_masks(tmp_path: Path) -> None:
    """A header that promises far more than the file holds; no numpy file; a file too large."""
    path = tmp_path / "02_0001.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (64,)).flush()
    promised = path.read_bytes().replace(b"(64,), }", b"(9999999999999,), }")
    path.write_bytes(promised)
    with pytest.raises(ManifestError, match="02_0001"):
        read_mask(path)
    path.write_bytes(b"no numpy")
    with pytest.raises(ManifestError, match=r"02_0001: .* is not a frame mask"):
        read_mask(path)
    with path.open("wb") as file:
        file.truncate(1 << 23)
    with pytest.raises(ManifestError, match=r"02_0001: .* is larger than"):
        read_mask(path)


@settings(deadline=None)
@given(labels=st.lists(st.integers(0, 1), min_size=1, max_size=80))
def test_masks_come_back(tmp_path_factory: pytest.TempPathFactory, labels: list[int]) -> None:
    path = tmp_path_factory.mktemp("mask") / "01_0001.npy"
    np.save(path, np.array(labels, np.uint8))
    ranges, n_frames = read_mask(path)
    assert frame_labels(ranges, n_frames).tolist() == labels


def test_a_stranger_among_the_masks_is_an_error(root: Path) -> None:
    np.save(root / "test_frame_mask/01_001.npy", np.zeros(9, np.uint8))
    with pytest.raises(ManifestError, match=r"01_001\.npy is not a test video"):
        build(root)


@pytest.mark.parametrize(
    "text", ["01_001\n02_0003", "01_001\r\n02_0003\r\n", "\ufeff01_001,0\n\n02_0003,1\n"]
)
def test_lists_of_all_systems(tmp_path: Path, text: str) -> None:
    path = tmp_path / "SH_Train.txt"
    path.write_bytes(text.encode())
    assert read_list(path) == ["01_001", "02_0003"]


def test_footage(root: Path, tmp_path: Path) -> None:
    videos = tmp_path / "shanghaitech"
    (videos / "training/videos").mkdir(parents=True)
    (videos / "training/videos/02_001.avi").touch()
    pictures(videos / "training/frames/02_001", 3)  # made from the .avi: that is taken
    pictures(videos / "training/frames/03_002", 5)
    pictures(videos / "testing/frames/02_0001", 380)
    with pytest.raises(ManifestError, match=r"no footage of 01_0052: looked for training/videos"):
        build(root, footage=videos)
    manifest = build(root, footage="../shanghaitech", subset=True)
    assert manifest.root == str(videos)
    assert [(r.video_id, r.path, r.expected_frames) for r in manifest.records] == [
        ("02_0001", "testing/frames/02_0001", 380),
        ("02_001", "training/videos/02_001.avi", None),
        ("03_002", "training/frames/03_002", 5),
    ]
    (videos / "testing/frames/02_0001/007.jpg").unlink()
    with pytest.raises(ManifestError, match=r"02_0001: pictures in .*: found 379, .* has 380"):
        build(root, footage=videos, subset=True)
    (videos / "testing/frames/02_0001").rename(tmp_path / "away")
    (videos / "testing/frames/02_0001").mkdir()
    with pytest.raises(ManifestError, match=r"02_0001: .* holds no pictures"):
        build(root, footage=videos, subset=True)


def test_nothing_there_is_an_error_even_of_a_subset(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="holds no video of ShanghaiTech"):
        build(root, footage=tmp_path, subset=True)


def test_the_one_class_split_needs_no_lists(root: Path, tmp_path: Path) -> None:
    """As the original archive is: training videos are what lies in their folder."""
    for name in ("SH_Train.txt", "SH_Test.txt"):
        (root / name).unlink()
    with pytest.raises(ManifestError, match="train: no video"):
        build(root, protocol="one_class")
    (tmp_path / "training/videos").mkdir(parents=True)
    for video_id in ("01_001", "13_007"):
        (tmp_path / f"training/videos/{video_id}.avi").touch()
    manifest = build(root, protocol="one_class", footage=tmp_path, subset=True)
    assert [r.video_id for r in manifest.records] == ["01_001", "13_007"]


@pytest.mark.data
def test_golden_totals(shared: Path) -> None:
    root = shared / "data/labels/shanghaitech"
    golden = json.loads((shared / "golden/g12_ground_truth.json").read_text())
    one_class = build(root, protocol="one_class").select(split="test")
    totals, expected = count(one_class.records), golden["shanghaitech_occ"]
    assert totals.frames == expected["frames"]
    assert totals.abnormal_frames == expected["abnormal_frames"]
    assert {
        r.video_id: [r.expected_frames, sum(b - a for a, b in r.anomalies or ())]
        for r in one_class.records
    } == expected["per_video"]

    weak, expected = build(root), golden["shanghaitech_ws"]
    for split in ("train", "test"):
        counts = count(weak.select(split=split).records)
        assert (counts.abnormal, counts.normal) == (
            expected[split]["abnormal"],
            expected[split]["normal"],
        )
    abnormal = weak.select(split="test", label=1)
    counts, expected = count(abnormal.records), expected["test"]
    assert counts.frames == expected["frames_real_of_abnormal_videos"]
    assert counts.abnormal_frames == expected["abnormal_frames_real"]
    # The reference pads to whole snippets with the last label.
    padded = {}
    for record in abnormal.records:
        assert record.expected_frames is not None and record.anomalies is not None
        labels = frame_labels(record.anomalies, record.expected_frames)
        labels = np.pad(labels, (0, -len(labels) % 16), mode="edge")
        padded[record.video_id] = [len(labels), int(labels.sum())]
    assert padded == expected["per_abnormal_video_padded"]
    assert sum(n for _, n in padded.values()) == expected["abnormal_frames_padded"]
    assert sum(n for n, _ in padded.values()) == expected["frames_padded_of_abnormal_videos"]
