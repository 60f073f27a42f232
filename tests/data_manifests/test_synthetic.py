from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.synthetic import FRAMES, SIZE, write_tiny_scene
from vadpipe.data_manifests.intervals import frame_labels, mask_labels
from vadpipe.data_manifests.record import Manifest, ManifestError
from vadpipe.data_manifests.synthetic import build, write_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training clips and four test clips; only read."""
    return write_tiny_scene(tmp_path_factory.mktemp("synthetic") / "scene", n_test=4)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """One clip of each split; free to be damaged."""
    return write_tiny_scene(tmp_path / "scene", n_train=1, n_test=1)


def digests(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def decode(manifest: Manifest, path: str) -> NDArray[np.uint8]:
    with av.open(str(manifest.resolve(path))) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    return np.stack(frames)


def test_the_manifest_says_what_was_drawn(scene: Path) -> None:
    manifest = build(scene)
    assert [r.video_id for r in manifest.records] == [
        *("train_01", "train_02", "test_01", "test_02", "test_03", "test_04")
    ]
    assert [r.label for r in manifest.records] == [0, 0, 1, 1, 1, 0]
    assert {r.expected_frames for r in manifest.records} == {FRAMES}
    for record in manifest.records:
        assert bool(record.anomalies) == (record.label == 1)
        assert record.anomalies is not None
        assert (record.masks is None) == (record.split == "train")
        share = frame_labels(record.anomalies, FRAMES).mean()
        assert share < 0.9  # an anomaly comes in while the camera watches


def test_clips_decode_to_what_was_asked_for(scene: Path) -> None:
    manifest = build(scene)
    for record in manifest.records:
        pixels = decode(manifest, record.path)
        assert pixels.shape == (FRAMES, *SIZE, 3)
        with av.open(str(manifest.resolve(record.path))) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.average_rate) == ("h264", 25)
            keys = [p.pts for p in container.demux(stream) if p.is_keyframe]
        assert len(keys) == -(-FRAMES // 12)  # one in twelve frames


def test_labels_masks_and_tracks_agree(scene: Path) -> None:
    manifest = build(scene)
    for record in manifest.select(split="test").records:
        assert record.masks is not None
        assert record.tracks is not None
        assert record.anomalies is not None
        folder = manifest.resolve(record.masks)
        masks = np.stack([np.asarray(Image.open(p)) for p in sorted(folder.iterdir())])
        assert masks.shape == (FRAMES, *SIZE)
        assert set(np.unique(masks)) <= {0, 255}
        labels = frame_labels(record.anomalies, FRAMES)
        assert (mask_labels(folder) == labels).all()
        boxes = np.zeros_like(masks, dtype=bool)
        with manifest.resolve(record.tracks).open(newline="") as file:
            rows = [{k: int(v) for k, v in row.items()} for row in csv.DictReader(file)]
        for row in rows:
            boxes[row["frame"], row["y0"] : row["y1"], row["x0"] : row["x1"]] = True
        assert (masks[~boxes] == 0).all()
        # A box is tight: its four borders touch what it is about.
        for row in rows:
            box = masks[row["frame"], row["y0"] : row["y1"], row["x0"] : row["x1"]]
            assert all(edge.any() for edge in (box[0], box[-1], box[:, 0], box[:, -1]))


def test_masks_cover_what_differs_from_the_background(scene: Path) -> None:
    """The pixels of an anomaly stand out from the median of the clip, the rest rarely does."""
    manifest = build(scene)
    inside, outside = [], []
    for record in manifest.select(split="test", label=1).records:
        assert record.masks is not None
        pixels = decode(manifest, record.path).astype(np.float32)
        folder = manifest.resolve(record.masks)
        masks = np.stack([np.asarray(Image.open(p)) for p in sorted(folder.iterdir())]) > 0
        moved = np.abs(pixels - np.median(pixels, axis=0)).mean(axis=-1)
        inside.append(moved[masks])
        outside.append(moved[~masks])
    assert np.median(np.concatenate(inside)) > 5 * np.median(np.concatenate(outside))


def difference(one: Path, other: Path, clip: str, other_clip: str = "") -> float:
    """Mean difference of the pixels of two clips: x264 encodes some pictures in two ways."""
    first, second = decode(build(one), clip), decode(build(other), other_clip or clip)
    return float(np.abs(first.astype(np.float32) - second).mean())


TRAIN, TEST = "train/train_01.mp4", "test/test_01.mp4"
SAME = 0.5  # grey values: two ways to encode differ by 0.13, two clips by more than 1


def test_a_seed_decides_everything(tmp_path: Path, own: Path) -> None:
    again = write_tiny_scene(tmp_path / "again", n_train=1, n_test=1)
    first, second = digests(own), digests(again)
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} <= {TRAIN, TEST}
    assert max(difference(own, again, clip) for clip in (TRAIN, TEST)) < SAME
    other = write_tiny_scene(tmp_path / "other", n_train=1, n_test=1, seed=1)
    assert difference(own, other, TRAIN) > 2 * SAME


def test_a_clip_does_not_depend_on_how_many_there_are(scene: Path, own: Path) -> None:
    assert digests(own)["tracks/test_01.csv"] == digests(scene)["tracks/test_01.csv"]
    assert max(difference(own, scene, clip) for clip in (TRAIN, TEST)) < SAME
    assert difference(scene, scene, TRAIN, "train/train_02.mp4") > 2 * SAME


def test_frames_say_nothing_by_codec_noise_or_light(scene: Path) -> None:
    """Without the figures (above the wall's foot nothing walks), all clips look alike."""
    manifest = build(scene)
    noise, light = {0: [], 1: []}, {0: [], 1: []}  # type: ignore[var-annotated]
    for record in manifest.records:
        top = decode(manifest, record.path)[:, : SIZE[0] // 8].astype(np.float32)
        split = int(record.split == "test")
        noise[split].append(np.diff(top, axis=0).std())
        light[split].append(top.mean())
    assert np.ptp(noise[0] + noise[1]) < 0.15 * np.mean(noise[0])
    assert np.ptp(light[0] + light[1]) < 0.12 * np.mean(light[0])


def test_the_full_size_draws_all_kinds_of_anomaly(tmp_path: Path) -> None:
    root = write_scene(tmp_path / "scene", n_train=1, frames=60)
    manifest = build(root)
    tracks = []
    for record in manifest.select(split="test").records:
        assert record.tracks is not None
        with manifest.resolve(record.tracks).open(newline="") as file:
            tracks.append({row["track_id"] for row in csv.DictReader(file)})
    assert tracks == [{"1"}, {"1", "2"}, {"1"}, set()]
    assert decode(manifest, "train/train_01.mp4").shape == (60, 240, 320, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"size": (63, 96)},
        {"size": (46, 96)},
        {"frames": 15},
        {"n_train": 0},
        {"n_test": 0},
        {"fps": 0},
        {"seed": -1},
    ],
)
def test_numbers_out_of_range(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(ManifestError, match=r"synthetic scene needs|seed -1 is negative"):
        write_scene(tmp_path / "scene", **change)  # type: ignore[arg-type]
    assert not (tmp_path / "scene").exists()


def test_nothing_is_overwritten(own: Path) -> None:
    with pytest.raises(ManifestError, match="is not empty"):
        write_tiny_scene(own)


def test_a_scene_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(Image.Image, "save", full)  # the masks: the last thing but one
        write_tiny_scene(tmp_path / "scene")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "scene").mkdir()
    assert len(build(write_tiny_scene(tmp_path / "scene"))) == 4


def test_an_unfinished_scene_is_an_error(own: Path) -> None:
    (own / "scene.json").unlink()
    with pytest.raises(ManifestError, match="no finished synthetic scene"):
        build(own)
    (own / "scene.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ManifestError, match="no finished synthetic scene"):
        build(own)


@pytest.mark.parametrize("path", ["train/train_01.mp4", "test/test_01.mp4"])
def test_a_missing_clip_is_an_error(own: Path, path: str) -> None:
    (own / path).unlink()
    with pytest.raises(ManifestError, match=r"clips: found 0, .* has 1"):
        build(own)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("labels/test_01.txt", "test_01: labels or tracks cannot be read"),
        ("tracks/test_01.csv", "test_01: labels or tracks cannot be read"),
        ("masks/test_01/000003.png", "test_01: pixel masks: found 39, .* has 40"),
    ],
)
def test_a_missing_label_is_an_error(own: Path, path: str, message: str) -> None:
    (own / path).unlink()
    with pytest.raises(ManifestError, match=message):
        build(own)


def test_labels_that_disagree_are_an_error(own: Path) -> None:
    labels = own / "labels/test_01.txt"
    words = labels.read_text(encoding="utf-8").split()
    words[0] = "1" if words[0] == "0" else "0"
    labels.write_text("\n".join(words), encoding="utf-8")
    with pytest.raises(ManifestError, match="test_01: labels, pixel masks and tracks disagree"):
        build(own)


def test_the_facts_are_written_down(own: Path) -> None:
    facts = json.loads((own / "scene.json").read_text(encoding="utf-8"))
    assert facts == {
        **{"seed": 0, "size": list(SIZE), "frames": FRAMES, "fps": 25, "train": 1, "test": 1}
    }
