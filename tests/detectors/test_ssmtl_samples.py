"""Samples of SSMTL: gaps, the split by frames, the right pictures, every object once a turn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from tests.bags import ArrayRows
from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.row_memory import RowMemory
from vadpipe.detectors.ssmtl_samples import (
    CropSequences,
    FrameSequences,
    Places,
    Samples,
    check_places,
    irregular_offsets,
    split_places,
)


def places(video: list[int], row: list[int], room: int = 99) -> Places:
    rooms = np.full(len(row), room, np.int64)
    return Places(np.array(video, np.int64), np.array(row, np.int64), rooms, rooms)


@pytest.mark.parametrize("t", [1, 2, 3, 4])
def test_gaps_are_of_1_to_4_frames_and_fit_the_room(t: int) -> None:
    rng = np.random.default_rng(0)
    before, after = rng.integers(2 * t, 5 * t + 3, (2, 500))
    found = irregular_offsets(rng, before, after, t)
    steps = np.diff(found, axis=1)
    assert found.shape == (500, 2 * t + 1)
    assert not found[:, t].any()
    assert set(steps.reshape(-1).tolist()) == {2, 3, 4, 5}
    assert (-found[:, 0] <= before).all()
    assert (found[:, -1] <= after).all()


def test_gaps_are_uniform_and_drawn_one_by_one() -> None:
    room = np.full(4000, 15)
    steps = np.diff(irregular_offsets(np.random.default_rng(1), room, room, 3), axis=1)
    for column in steps.T:
        assert all(abs(count - 1000) < 150 for count in Counter(column.tolist()).values())
    assert np.abs(np.corrcoef(steps.T) - np.eye(6)).max() < 0.1


def test_the_smallest_room_leaves_one_choice() -> None:
    room = np.full(3, 6)
    found = irregular_offsets(np.random.default_rng(0), room, room, 3)
    assert (found == [-6, -4, -2, 0, 2, 4, 6]).all()


def test_the_split_is_by_frames_and_no_sequence_of_training_sees_validation() -> None:
    rng = np.random.default_rng(0)
    frames = [np.sort(rng.integers(10, 110, 300)), np.sort(rng.integers(0, 40, 90))]
    bounds = [(10, 110), (0, 40)]
    training, validating = split_places(frames, bounds, 0.15, 3)
    wanted: tuple[list[tuple[int, ...]], list[tuple[int, ...]]] = ([], [])
    for video, (frame, (first, stop)) in enumerate(zip(frames, bounds, strict=True)):
        border = first + int(0.85 * (stop - first))
        for row, i in enumerate(frame.tolist()):
            last = border - 1 if i < border else stop - 1
            if i - first >= 3 and last - i >= 3:
                wanted[i >= border].append((video, row, i - first, last - i))
    for found, expected in zip((training, validating), wanted, strict=True):
        arrays = (found.video, found.row, found.before, found.after)
        assert list(zip(*(values.tolist() for values in arrays), strict=True)) == expected


def test_videos_that_are_too_short_are_refused() -> None:
    training, validating = split_places([np.arange(5)], [(0, 5)], 0.15, 3)
    with pytest.raises(DetectorError, match="training videos have no object with 3 frames before"):
        check_places(training, validating, 0.15, 3)
    some = places([0], [0])
    with pytest.raises(DetectorError, match=r"last 15 % .* set validation to a larger share"):
        check_places(some, validating, 0.15, 3)
    check_places(some, validating, 0.0, 3)


def test_crops_and_frames_are_those_asked_for() -> None:
    """The value of a pixel says its row and its frame."""
    offsets = np.array([[-2, 0, 1], [-1, 0, 2]])
    crops = [np.zeros((4, 5, 2, 2, 3), np.uint8) + v for v in (0, 100)]
    for each in crops:
        each += (10 * np.arange(4)[:, None] + np.arange(5)).astype(np.uint8)[..., None, None, None]
    found = CropSequences(RowMemory(ArrayRows(crops))).read(places([1, 0], [3, 2]), offsets)
    assert found[..., 0, 0, 0].tolist() == [[130, 132, 133], [21, 22, 24]]
    assert found.shape == (2, 3, 2, 2, 3)
    frames = [np.zeros((9, 2, 2, 3), np.uint8) + v for v in (0, 100)]
    for each in frames:
        each += np.arange(9, dtype=np.uint8)[:, None, None, None]
    found = FrameSequences(RowMemory(ArrayRows(frames))).read(places([1, 0], [3, 2]), offsets)
    assert found[..., 0, 0, 0].tolist() == [[101, 103, 104], [1, 2, 4]]


def samples(seed: int = 0) -> Samples:
    crops = np.arange(7, dtype=np.uint8)[:, None, None, None, None]
    wide = np.broadcast_to(crops, (7, 11, 1, 1, 3)).copy()
    teacher = np.arange(14, dtype=np.float16).reshape(7, 2)
    memories = [RowMemory(ArrayRows([each])) for each in (wide, teacher)]
    return Samples(CropSequences(memories[0]), memories[1:], 1, True, seed)


def test_every_object_is_drawn_once_a_turn() -> None:
    source, some = samples(), places([0] * 5, [0, 2, 3, 4, 6], room=5)
    seen: list[int] = []
    for draw in range(5):  # 15 draws: three turns
        batch = source.drawn(some, 3, draw)
        rows = batch.regular[:, 1, 0, 0, 0]
        seen += rows.tolist()
        assert batch.irregular is not None
        assert batch.irregular.shape == batch.regular.shape == (3, 3, 1, 1, 3)
        assert batch.targets is not None
        assert batch.targets.tolist() == [[2.0 * r, 2.0 * r + 1] for r in rows.tolist()]
    turns = [seen[i : i + 5] for i in (0, 5, 10)]
    assert all(sorted(turn) == [0, 2, 3, 4, 6] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1


def test_a_draw_depends_on_its_number_and_the_seed_only() -> None:
    some = places([0] * 5, [0, 2, 3, 4, 6], room=5)
    first = [samples().drawn(some, 4, draw).regular for draw in (0, 1, 2)]
    assert torch.equal(samples().drawn(some, 4, 1).regular, first[1])
    others = [samples(seed=1).drawn(some, 4, draw).regular for draw in (0, 1, 2)]
    assert not all(map(torch.equal, first, others))


def test_validation_is_in_order_and_the_same_each_time() -> None:
    some = places([0] * 5, [0, 2, 3, 4, 6], room=5)
    once, twice = (list(samples().in_order(some, 2)) for _ in range(2))
    rows = [batch.regular[:, 1, 0, 0, 0].tolist() for batch in once]
    assert rows == [[0, 2], [3, 4], [6]]
    for a, b in zip(once, twice, strict=True):
        assert a.irregular is not None and b.irregular is not None
        assert torch.equal(a.irregular, b.irregular)


def test_places_are_spread_evenly() -> None:
    some = places([0] * 100, list(range(100)))
    assert some.spread(4).row.tolist() == [0, 25, 50, 75]
    assert some.spread(200) is some
