"""Crops: the pixels of the box in every frame, by Pillow's arithmetic."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vadpipe.extractors.detection.crops import cut_crops


def test_crops_are_the_same_box_of_every_frame() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), np.uint8)
    boxes = np.array([[2.5, 3.2, 20.1, 29.9], [0, 0, 1, 1], [30, 20, 40, 30]], np.float32)
    crops = cut_crops(frames, boxes, 16)
    assert crops.shape == (3, 3, 16, 16, 3) and crops.dtype == np.uint8
    for t, frame in enumerate(frames):
        part = Image.fromarray(frame[3:30, 2:21]).resize((16, 16), Image.Resampling.BILINEAR)
        assert np.abs(crops[0, t].astype(int) - np.asarray(part)).max() <= 1
        assert (crops[1, t] == frame[0, 0]).all()


def test_no_boxes_no_crops() -> None:
    assert cut_crops(np.zeros((7, 8, 8, 3), np.uint8), np.empty((0, 4), np.float32), 64).shape == (
        *(0, 7, 64, 64, 3),
    )
