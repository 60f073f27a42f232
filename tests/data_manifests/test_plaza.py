"""The plaza on disk: the plan, the boxes, the manifest, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vadpipe.data_manifests.intervals import frame_labels
from vadpipe.data_manifests.plaza import Clip, build, planned, write_plaza
from vadpipe.data_manifests.plaza_scene import EVENTS, SIZES
from vadpipe.data_manifests.record import ManifestError
from vadpipe.extractors.detection.boxes_file import from_file
from vadpipe.extractors.weights.cards import BYTES

TINY = {"size": (96, 144), "frames": 20, "fps": 2, "n_train": 1, "n_validation": 1, "n_test": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only read."""
    return write_plaza(tmp_path_factory.mktemp("plaza") / "plaza", **TINY)  # type: ignore[arg-type]


def test_every_event_happens_in_every_size_in_27_clips() -> None:
    clips = planned(0, {"train": 12, "validation": 9, "test": 27})
    test = [(c.event, c.size) for c in clips if c.split == "test" and c.event]
    assert sorted(test) == sorted((e, s) for e in EVENTS for s in SIZES)
    validation = [c.event for c in clips if c.split == "validation" and c.event]
    assert sorted(validation) == sorted(EVENTS)
    assert not [c for c in clips if c.split == "train" and c.event]
    cameras = Counter((c.split, c.scene) for c in clips)
    assert cameras["train", "north"] == cameras["train", "south"] == 6
    assert {c.scene for c in clips if c.split == "test" and c.event is None} == {"north", "south"}
    more = planned(0, {"train": 12, "validation": 9, "test": 54})
    assert more[: len(clips)] == clips, "a clip does not depend on how many follow"


def test_the_manifest_says_what_was_drawn(root: Path) -> None:
    manifest = build(root)
    assert [r.video_id for r in manifest.records] == [
        *("train_01", "validation_01", "test_01", "test_02", "test_03", "test_04")
    ]
    assert [r.label for r in manifest.records] == [0, 1, 1, 1, 1, 0]
    assert {r.scene for r in manifest.records} == {"north", "south"}
    clips = {c["name"]: Clip(**c) for c in json.loads((root / "plaza.json").read_text())["clips"]}
    for record in manifest.records:
        clip = clips[record.video_id]
        assert record.category == (f"{clip.event}+{clip.size}" if clip.event else None)
        assert record.anomalies is not None
        labels = frame_labels(record.anomalies, 20)
        assert labels.any() == bool(clip.event) and not labels[0]
        if record.masks:
            masks = sorted((root / record.masks).iterdir())
            assert [np.asarray(Image.open(m)).any() for m in masks] == labels.astype(bool).tolist()


def test_boxes_hold_the_event_and_name_its_class(root: Path) -> None:
    table = pq.read_table(root / "boxes.parquet")
    rows = [row for row in table.to_pylist() if row["frame"] is not None]
    assert {row["video"] for row in table.to_pylist()} == {
        f"{r.split}/{r.video_id}" for r in build(root).records
    }
    for row in rows:
        assert row["x0"] <= row["x1"] and row["y0"] <= row["y1"] and 0 < row["score"] <= 1
        shares = [float(part.partition(":")[2]) for part in row["classes"].split(";")]
        assert shares[0] > 0.8 > 0.1 > shares[1]
    (event,) = [r for r in build(root).records if r.video_id == "test_01"]
    assert event.tracks and event.category
    label = EVENTS[event.category.partition("+")[0]].label
    tracked = [line.split(",") for line in (root / event.tracks).read_text().splitlines()[1:]]
    found = 0
    for _, frame, *sides in tracked:
        box = np.array(sides, float)
        for row in rows:
            if row["video"] == "test/test_01" and row["frame"] == int(frame):
                other = np.array([row[side] for side in ("x0", "y0", "x1", "y1")])
                near = np.abs(other - box).max() < 4
                found += near and row["classes"].startswith(label)
    assert found >= 0.7 * len(tracked)


def test_the_objects_extractor_reads_the_boxes(root: Path) -> None:
    rows = pq.read_table(root / "boxes.parquet").to_pylist()
    content = np.frombuffer((root / "boxes.parquet").read_bytes(), np.uint8)
    read = from_file({BYTES: content})
    assert len(read["boxes"]) == sum(row["frame"] is not None for row in rows)
    assert read["videos"].tobytes().decode().split("\n")[0] == "train/train_01"
    assert (read["classes"].max(1) > 0.8).all() and (read["classes"] > 0).sum(1).max() == 2


def test_the_seed_decides_every_byte(root: Path, tmp_path: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        paths = [p for p in folder.rglob("*") if p.is_file()]
        return {
            str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths
        }

    few = {**TINY, "n_test": 1}
    same = digests(write_plaza(tmp_path / "a", **few))  # type: ignore[arg-type]
    other = digests(write_plaza(tmp_path / "b", seed=1, **few))  # type: ignore[arg-type]
    videos = [name for name in same if name.endswith(".mp4")]
    assert {name: digests(root)[name] for name in videos} == {name: same[name] for name in videos}
    assert not {same[name] for name in videos} & {other[name] for name in videos}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (95, 144)}, "even height and width of 96 or more"),
        ({"frames": 15}, "16 frames or more"),
        ({"n_validation": 0}, "a clip of each split"),
        ({"seed": -1}, "seed of 0 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        write_plaza(tmp_path / "plaza", **{**TINY, **change})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_plaza_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no finished plaza.*vadpipe draw plaza"):
        build(tmp_path)
    for split in ("train", "validation", "test"):
        (tmp_path / split).symlink_to(root / split)
    facts = json.loads((root / "plaza.json").read_text())
    facts["clips"][0]["name"] = "train_02"
    (tmp_path / "plaza.json").write_text(json.dumps(facts))
    with pytest.raises(ManifestError, match=r"holds other clips than plaza\.json"):
        build(tmp_path)
    facts["train"] = 2
    (tmp_path / "plaza.json").write_text(json.dumps(facts))
    with pytest.raises(ManifestError, match="clips: found 1, but the data set has 2"):
        build(tmp_path)
