"""Boxes of drawn figures: around what is drawn, readable by the extractor, no labels in them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests.drawn_boxes import CLASSES, COLUMNS, boxes_of_clip, seen_boxes
from vadpipe.data_manifests.synthetic_scene import FIGURES, Actor, Camera, Look, render
from vadpipe.extractors.detection.boxes_file import from_file
from vadpipe.extractors.networks.coco import COCO
from vadpipe.extractors.weights.cards import BYTES

CAMERA = Camera(120, 160)
LOOK = Look((205, 158, 124), (40, 30, 25), (178, 44, 46), (38, 44, 66), None, False, 1.0)


def actor(kind: str, x: float, z: float = 10.0, vx: float = 1.0) -> Actor:
    return Actor(kind, x, z, vx, 0.0, 0.0, LOOK, 0.5, 1)


@pytest.mark.parametrize("kind", FIGURES)
def test_a_box_is_around_what_is_drawn(kind: str) -> None:
    one = actor(kind, -1.0)
    grey = Image.new("RGB", CAMERA.canvas, (128, 128, 128))
    clip = list(render(CAMERA, grey, [one], np.random.default_rng(0), frames=2, fps=2))
    for frame, (_, tracks) in enumerate(clip):
        rows, columns = np.nonzero(tracks)
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert seen_boxes(CAMERA, [one], frame / 2) == [(0, expected)]


def test_only_what_can_be_seen_has_a_box() -> None:
    front, hidden = actor("cart", 0.0, 8.0), actor("cart", 0.0, 8.0)
    left = actor("walker", -40.0)
    assert [number for number, _ in seen_boxes(CAMERA, [hidden, front, left], 0.0)] == [1]


def test_every_class_is_one_of_coco() -> None:
    assert CLASSES.keys() == FIGURES.keys()
    assert all(name in COCO for classes in CLASSES.values() for name in classes)
    (row,) = boxes_of_clip(
        "v", CAMERA, [actor("cyclist", 0.0)], np.random.default_rng(0), frames=1, fps=25
    )
    facts = dict(zip(COLUMNS, row, strict=True))
    assert str(facts["classes"]).startswith("bicycle:0.8") and "person:0.5" in str(facts["classes"])
    nothing = list(boxes_of_clip("v", CAMERA, [], np.random.default_rng(0), frames=2, fps=25))
    assert nothing == [("v", *[""] * 8)]


def test_a_scene_has_a_boxes_file_that_the_extractor_reads(tmp_path: Path) -> None:
    root = tmp_path / "scene"
    write_tiny_scene(root, n_train=1, n_test=1)
    arrays = from_file({BYTES: np.fromfile(root / "boxes.csv", np.uint8)})
    names = arrays["videos"].tobytes().decode().split("\n")
    assert names == ["train/train_01", "test/test_01"]
    assert {"track", "label"}.isdisjoint(COLUMNS)
    of_test = arrays["video"] == 1
    places = {
        (int(frame), *box)
        for frame, box in zip(
            arrays["frame"][of_test], arrays["boxes"][of_test].astype(int).tolist(), strict=True
        )
    }
    with (root / "tracks" / "test_01.csv").open(newline="") as file:
        tracked = [
            tuple(int(row[name]) for name in ("frame", "x0", "y0", "x1", "y1"))
            for row in csv.DictReader(file)
        ]
    large = [row for row in tracked if (row[3] - row[1]) * (row[4] - row[2]) >= 20]
    assert large and set(large) <= places, "anomalies are boxes like all others"
