"""Tracks from masks, on masks that are drawn for one rule each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vadpipe.data_manifests.mask_tracks import components, derive_tracks

Box = tuple[int, int, int, int]


def masks(*frames: list[Box]) -> list[NDArray[np.bool_]]:
    drawn = []
    for boxes in frames:
        mask = np.zeros((60, 80), dtype=bool)
        for x0, y0, x1, y1 in boxes:
            mask[y0:y1, x0:x1] = True
        drawn.append(mask)
    return drawn


def rows(*frames: list[Box]) -> list[list[int]]:
    tracks, n = derive_tracks(masks(*frames))
    assert n == len(frames)
    table = np.column_stack([tracks.track_id, tracks.frame, tracks.box])
    return [[int(value) for value in row] for row in table]


def test_components_are_eight_connected_and_large_enough() -> None:
    mask = np.zeros((10, 12), dtype=bool)
    mask[0:4, 0:5] = True  # 20 pixels
    mask[4:8, 5:10] = True  # touches it at a corner
    mask[9, 0:12] = True  # 12 pixels
    found = components(mask)
    assert found.box.tolist() == [[0, 0, 10, 8], [0, 9, 12, 10]]
    assert [int((found.labels == number).sum()) for number in found.number] == [40, 12]
    assert components(mask, 20).box.tolist() == [[0, 0, 10, 8]]
    assert components(np.zeros((3, 3), bool)).box.shape == (0, 4)


def test_nineteen_pixels_are_no_region_and_twenty_are() -> None:
    assert rows([(0, 0, 19, 1)]) == []
    assert rows([(0, 0, 20, 1)]) == [[0, 0, 0, 0, 20, 1]]


def test_a_gap_ends_a_track() -> None:
    box = (10, 10, 20, 20)
    assert [row[:2] for row in rows([box], [box], [], [box])] == [[0, 0], [0, 1], [1, 3]]


def test_links_are_one_to_one_and_the_largest_overlap_wins() -> None:
    # Both later boxes overlap the earlier one; the second one overlaps more.
    found = rows([(10, 10, 20, 20)], [(5, 10, 13, 20), (14, 10, 24, 20)])
    assert found == [[0, 0, 10, 10, 20, 20], [0, 1, 14, 10, 24, 20], [1, 1, 5, 10, 13, 20]]


def test_an_overlap_of_a_tenth_is_no_link() -> None:
    # 10 x 10 boxes that share 20 of 180 pixels: 1/9; and 18 of 182: below a tenth.
    assert len({row[0] for row in rows([(0, 0, 10, 10)], [(8, 0, 18, 10)])}) == 1
    assert len({row[0] for row in rows([(0, 0, 10, 10)], [(8, 1, 18, 11)])}) == 2
    # Exactly 10 of 100: 10 x 1 in 10 x 10.
    assert len({row[0] for row in rows([(0, 0, 10, 10)], [(0, 0, 10, 1), (0, 0, 1, 1)])}) == 1
    assert len({row[0] for row in rows([(0, 0, 20, 10)], [(0, 0, 20, 1)])}) == 2


def test_equal_overlaps_take_the_first_region() -> None:
    found = rows([(10, 10, 20, 20)], [(14, 10, 24, 20)], [(10, 10, 16, 20), (22, 10, 28, 20)])
    assert [row[:3] for row in found] == [[0, 0, 10], [0, 1, 14], [0, 2, 10], [1, 2, 22]]


def test_no_masks_are_no_tracks() -> None:
    tracks, n = derive_tracks([])
    assert (len(tracks), n) == (0, 0)
