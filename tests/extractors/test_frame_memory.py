"""Clips out of frames: views where frames are neighbours in memory, else few copies."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from vadpipe.extractors.clips import ClipAssembler, ClipRule, Span
from vadpipe.extractors.footage.video import Frame
from vadpipe.extractors.frame_memory import FrameMemory, view_of


def ring(slots: int) -> np.ndarray:
    return np.zeros((slots, 2, 3, 3), np.uint8)


def written(memory: np.ndarray, number: int, *, scarce: bool = False) -> Frame:
    """A frame in the next slot of a ring."""
    place = memory[number % len(memory)]
    place[...] = number
    place = place.view()
    place.flags.writeable = False
    return Frame(number, number / 10, place, memory_scarce=scarce)


def test_neighbours_are_one_view() -> None:
    memory = ring(6)
    view = view_of([written(memory, i).image for i in range(1, 5)])
    assert view is not None and np.shares_memory(view, memory)
    assert view[:, 0, 0, 0].tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 9


@pytest.mark.parametrize("order", [[5, 0], [2, 4], [1, 1], [3, 2]])
def test_others_are_not(order: list[int]) -> None:
    memory = ring(6)
    assert view_of([memory[i] for i in order]) is None


def test_a_picture_with_gaps_between_its_rows_is_no_neighbour() -> None:
    wide = np.zeros((2, 4, 8, 3), np.uint8)
    assert view_of([wide[0, :, :4], wide[0, :, :4]]) is None
    assert view_of([wide[0, :, :4]]) is None


def test_a_view_keeps_its_frames() -> None:
    """They may be dropped by everything else: then their memory must not be written again."""
    memory = np.frombuffer(bytes(range(48)), np.uint8)
    roots = [np.frombuffer(memory.data, np.uint8, 12, 12 * i) for i in range(4)]
    ended = [weakref.ref(root) for root in roots]
    view = view_of([root.reshape(2, 2, 3) for root in roots])
    assert view is not None
    part = view[2:, 0]
    del roots, view
    gc.collect()
    assert all(root() is not None for root in ended) and part[0, 0].tolist() == [24, 25, 26]
    del part
    gc.collect()
    assert all(root() is None for root in ended)


@pytest.mark.parametrize("rule", [
    ClipRule(4, 4), ClipRule(4, 1), ClipRule(2, 3, before=2, after=2), ClipRule(1, 2),
    ClipRule(3, 2, "drop", 1, 0),
])  # fmt: skip
@pytest.mark.parametrize("scarce", [[], range(100), range(7, 20)], ids=["room", "scarce", "both"])
@pytest.mark.parametrize("slots", [9, 16, 100])
def test_pictures_are_those_of_stacked_frames(
    rule: ClipRule, scarce: list[int], slots: int
) -> None:
    """Clips are used at once, as slots of the small rings are written again."""
    memory, assembler = ring(slots), ClipAssembler(rule, Span("x", 0, 30, True))
    clips = []
    for number in range(30):
        clips += [
            (clip.frames[:, 0, 0, 0].copy(), clip.index)
            for clip in assembler.push(written(memory, number, scarce=number in scarce))
        ]
    clips += [(clip.frames[:, 1, 2, 2].copy(), clip.index) for clip in assembler.finish()]
    assert clips
    for shown, index in clips:
        np.testing.assert_array_equal(shown, index)


def test_overlapping_clips_share_copies() -> None:
    """Short memory, a window of five at every frame: five copies a frame before."""
    memory, frames = FrameMemory(overlaps=True), ring(40)
    blocks = []
    for first in range(30):
        clip = memory.pictures([written(frames, first + i, scarce=True) for i in range(5)])
        assert clip[:, 0, 0, 0].tolist() == list(range(first, first + 5))
        if not blocks or clip.base is not blocks[-1]:
            blocks.append(clip.base)
        with pytest.raises(ValueError, match="read-only"):
            clip[0] = 0
    assert len(blocks) == 10, "a block of seven frames serves three clips"


def test_frames_that_are_not_lent_are_copied_clip_by_clip() -> None:
    """A longer block beside them would take more memory than is asked for."""
    memory = FrameMemory(overlaps=True)
    frames = [Frame(i, i / 10, np.full((2, 3, 3), i, np.uint8)) for i in range(9)]
    clips = [memory.pictures(frames[first : first + 4]) for first in range(6)]
    assert [clip[:, 1, 1, 1].tolist() for clip in clips] == [
        list(range(i, i + 4)) for i in range(6)
    ]
    assert all(clip.flags.owndata and clip.flags.writeable for clip in clips)
