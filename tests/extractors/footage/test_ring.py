"""Slots of shared memory that are lent while there is room, and come back in any order."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import numpy as np
import pytest

from vadpipe.extractors.footage.ring import SPARE, Ring
from vadpipe.extractors.frame_memory import view_of


@pytest.fixture
def file() -> Iterator[int]:
    number = os.memfd_create("test")
    yield number
    os.close(number)


def write(file: int, slot: int, value: int) -> None:
    os.pwrite(file, bytes([value]) * 18, slot * 18)


def test_pictures_are_views_that_come_back_when_nothing_refers_to_them(file: int) -> None:
    ring = Ring(file, 8, [(2, 3)], lends=True)
    write(file, 5, 7)
    (image,), scarce = ring.take(5)
    assert image.shape == (2, 3, 3) and (image == 7).all() and not scarce
    write(file, 5, 8)
    assert (image == 8).all(), "it is the memory that the decoder writes"
    assert not image.flags.writeable
    part = image[1:, :2]
    del image
    assert ring.freed() == []
    with pytest.raises(ValueError, match="not the decoder's"):
        ring.take(5)
    del part
    gc.collect()
    assert ring.freed() == [5] and ring.freed() == []
    ring.take(5)


def test_without_lending_all_are_copies(file: int) -> None:
    ring = Ring(file, 8, [(2, 3)], lends=False)
    write(file, 0, 1)
    (image,), scarce = ring.take(0)
    write(file, 0, 2)
    assert (image == 1).all() and image.flags.writeable and not scarce
    assert ring.freed() == [0], "the slot is free at once"


def test_the_decoder_always_has_slots(file: int) -> None:
    """A reader that keeps all it reads gets copies once slots run out."""
    ring = Ring(file, 12, [(2, 3)], lends=True)
    taken = [ring.take(slot) for slot in range(12 - SPARE)]
    assert [scarce for _, scarce in taken] == [False] * 4 + [True] * 4
    assert ring.freed() == []
    for slot in range(12 - SPARE, 12):
        write(file, slot, 3)
        (image,), _ = ring.take(slot)
        assert image.flags.writeable
        assert ring.freed() == [slot]


def test_slots_come_back_in_any_order(file: int) -> None:
    ring = Ring(file, 8, [(2, 3)], lends=True)
    views = {slot: ring.take(slot)[0][0] for slot in range(4)}
    for slot in (2, 0, 3):
        del views[slot]
    assert ring.freed() == [2, 0, 3]


@pytest.mark.parametrize("slot", [-1, 8, 200])
def test_a_slot_that_does_not_exist_is_refused(slot: int, file: int) -> None:
    with pytest.raises(ValueError, match="no slot"):
        Ring(file, 8, [(2, 3)], lends=True).take(slot)


def test_memory_is_freed_with_the_last_view(file: int) -> None:
    """Reading the end of a file that was cut off would end this process (SIGBUS)."""
    ring = Ring(file, 8, [(2, 3)], lends=True)
    write(file, 1, 9)
    (first,), (second,) = ring.take(0)[0], ring.take(1)[0]
    del first
    assert not ring.close() and os.fstat(file).st_size == 8 * 18
    assert (second == 9).all()
    del second
    assert os.fstat(file).st_size == 0 and ring.close()


def test_a_ring_that_was_left_does_not_touch_its_file(file: int) -> None:
    """Its number may be that of another file by then."""
    ring = Ring(file, 8, [(2, 3)], lends=True)
    (image,), _ = ring.take(0)
    assert not ring.close()
    ring.leave()
    size = os.fstat(file).st_size
    assert (image == 0).all()
    del image
    assert os.fstat(file).st_size == size > 0


def test_views_of_several_slots(file: int) -> None:
    """numpy follows the base of a view to its slot, whatever lies between."""
    ring = Ring(file, 8, [(2, 3)], lends=True)
    image = np.asarray(ring.take(2)[0][0])[::-1][1:, :, 0]
    assert ring.freed() == []
    del image
    assert ring.freed() == [2]


def test_several_sizes_of_a_picture_are_lent_together(file: int) -> None:
    """Those of one size are neighbours in memory; the slot is free when none is in use."""
    sizes = [(2, 3), (1, 2)]
    ring = Ring(file, 8, sizes, lends=True)
    for slot in range(8):
        os.pwrite(file, bytes([slot]) * 18, slot * 18)
        os.pwrite(file, bytes([100 + slot]) * 6, 8 * 18 + slot * 6)
    (large, small), _ = ring.take(3)
    assert large.shape == (2, 3, 3) and (large == 3).all()
    assert small.shape == (1, 2, 3) and (small == 103).all()
    (_, next_small), _ = ring.take(4)
    together = view_of([small, next_small])
    assert together is not None and (together == np.array([103, 104])[:, None, None, None]).all()
    del large
    assert ring.freed() == []
    with pytest.raises(ValueError, match="not the decoder's"):
        ring.take(3)
    del small, together
    gc.collect()
    assert ring.freed() == [3]


def test_several_sizes_are_copied_where_slots_run_out(file: int) -> None:
    ring = Ring(file, SPARE, [(2, 3), (1, 2)], lends=True)
    images, scarce = ring.take(0)
    assert [image.shape for image in images] == [(2, 3, 3), (1, 2, 3)] and not scarce
    assert all(image.flags.writeable for image in images) and ring.freed() == [0]
