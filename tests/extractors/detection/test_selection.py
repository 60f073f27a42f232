"""Which boxes are kept: closed forms, and independence of the order of what was found."""

from __future__ import annotations

import numpy as np

from vadpipe.extractors.detection.contract import detections_of
from vadpipe.extractors.detection.selection import Selection, overlaps, pixel_box, suppress

KEEP = Selection(score=0.5, overlap=0.5, min_width=4, min_height=6, most=500)


def found(*boxes: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array(boxes, np.float32).reshape(-1, 5)
    return values[:, :4], values[:, 4]


def kept(selection: Selection, *boxes: tuple[float, ...]) -> list[list[float]]:
    return selection.apply(detections_of(*found(*boxes)), 48, 64)[0].boxes.tolist()


def test_overlap_of_boxes() -> None:
    box = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [3, 3, 3, 3]], np.float32)
    assert np.allclose(overlaps(box, others), [1, 50 / 150, 0, 0])
    empty = np.zeros(4, np.float32)
    assert overlaps(empty, empty[None]).tolist() == [0]


def test_the_better_of_two_overlapping_boxes_is_kept_whatever_the_order() -> None:
    boxes = np.random.default_rng(0).uniform(0, 30, (60, 2)).astype(np.float32)
    boxes = np.concatenate([boxes, boxes + 12], 1)
    scores = np.linspace(1, 0.5, 60, dtype=np.float32)
    order = np.random.default_rng(1).permutation(60)
    selection = Selection(0.5, 0.3, 1, 1, 500)
    one, _ = selection.apply(detections_of(boxes, scores), 48, 64)
    other, _ = selection.apply(detections_of(boxes[order], scores[order]), 48, 64)
    assert 1 < len(one) < 60 and np.array_equal(one.boxes, other.boxes)
    for i, box in enumerate(one.boxes):  # an oracle: no two of those that are kept overlap
        assert (overlaps(box, np.delete(one.boxes, i, 0)) <= 0.3).all()
    equal = detections_of(boxes, np.ones(60))  # ties: by place
    again = detections_of(boxes[order], np.ones(60))
    assert np.array_equal(
        selection.apply(equal, 48, 64)[0].boxes, selection.apply(again, 48, 64)[0].boxes
    )


def test_suppression_is_a_greedy_one() -> None:
    row = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], np.float32)
    assert suppress(row, 0.4).tolist() == [0, 2]  # the third overlaps only what is dropped
    assert suppress(row[:0], 0.4).tolist() == []


def test_boxes_on_the_border_outside_and_without_pixels() -> None:
    assert kept(KEEP, (-5, -5, 10, 10, 1)) == [[0, 0, 10, 10]]
    assert kept(KEEP, (60, 40, 80, 60, 1)) == [[60, 40, 64, 48]]
    assert kept(KEEP, (64, 10, 90, 30, 1)) == []  # outside of the frame
    assert kept(KEEP, (-30, 10, -5, 30, 1)) == []
    tiny = Selection(0, 0.5, 0, 0, 500)
    assert kept(tiny, (5, 5, 5, 5, 1), (5, 5, 5.5, 20, 1)) == []  # 0 pixels, half a pixel
    assert kept(tiny, (5, 5, 6, 6, 1)) == [[5, 5, 6, 6]]
    assert kept(tiny, (np.nan, 5, 6, 6, 1), (0, 0, np.inf, 9, 1)) == []


def test_small_and_unsure_boxes_are_dropped() -> None:
    assert kept(KEEP, (10, 10, 13.9, 20, 1), (10, 10, 20, 15.9, 1), (10, 10, 14, 16, 0.49)) == []
    assert kept(KEEP, (10, 10, 14, 16, 0.5)) == [[10, 10, 14, 16]]


def test_more_objects_than_allowed() -> None:
    boxes = np.stack([np.arange(600) % 60, np.arange(600) // 60], 1).astype(np.float32)
    scores = np.random.default_rng(2).permutation(600) / 600
    many = detections_of(np.concatenate([boxes, boxes + 1], 1), scores)
    chosen, left_out = Selection(0, 0.9, 0, 0, 500).apply(many, 48, 64)
    assert len(chosen) == 500 and left_out == 100
    assert np.allclose(chosen.scores, np.sort(scores)[::-1][:500])


def test_pixels_of_a_box() -> None:
    assert pixel_box(np.array([1.2, 2.0, 3.1, 4.0], np.float32)) == (1, 2, 4, 4)


def test_masks_are_clipped_with_their_boxes() -> None:
    mask = np.arange(15 * 15).reshape(15, 15) % 2 == 0
    boxes, scores = found((-5, -3, 10, 12, 1))
    chosen, _ = KEEP.apply(detections_of(boxes, scores, masks=[mask]), 48, 64)
    assert chosen.masks is not None and np.array_equal(chosen.masks[0], mask[3:, 5:])
