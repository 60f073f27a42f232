"""Run lengths of masks: there and back, and by hand."""

from __future__ import annotations

import numpy as np

from vadpipe.extractors.detection.runs import decode_masks, encode_masks


def test_runs_by_hand() -> None:
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    boxes = np.array([[2, 1, 6, 4], [0, 0, 2, 1]], np.float32)
    runs = encode_masks([mask, np.zeros((1, 2), bool)], boxes, 10)
    assert runs.tolist() == [[0, 12, 2], [0, 15, 1], [0, 32, 4]]


def test_there_and_back() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([[0, 0, 7, 5], [3, 2, 20, 12], [19, 11, 20, 12]], np.float32)
    masks = [rng.random((5, 7)) < 0.5, rng.random((10, 17)) < 0.5, np.ones((1, 1), bool)]
    drawn = decode_masks(encode_masks(masks, boxes, 20), 3, 12, 20)
    for mask, box, found in zip(masks, boxes.astype(int), drawn, strict=True):
        x0, y0, x1, y1 = box
        assert np.array_equal(found[y0:y1, x0:x1], mask) and found.sum() == mask.sum()
    assert encode_masks([], boxes[:0], 20).shape == (0, 3)
