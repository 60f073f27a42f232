"""Messages and the ring between a process and its decoding process."""

from __future__ import annotations

import mmap
from collections.abc import Collection

import pytest

from vadpipe.extractors.footage.decode_messages import (
    CREDITS,
    FRAME,
    FRAME_PAYLOAD,
    HEAD,
    MOST_SLOTS,
    REQUEST,
    STOP,
    credit,
    message,
    next_slot,
    picture_bytes,
    ring_slots,
)


def test_a_message_says_its_kind_and_length() -> None:
    payload = FRAME_PAYLOAD.pack(7, 0.25, True, 3)
    data = message(FRAME, payload)
    assert HEAD.unpack(data[: HEAD.size]) == (FRAME, len(payload))
    assert FRAME_PAYLOAD.unpack(data[HEAD.size :]) == (7, 0.25, True, 3)


def test_no_request_begins_like_a_credit_or_a_stop() -> None:
    """The child drops those at the front of a request: they belong to the one before."""
    assert message(REQUEST, b"{}")[:1] not in CREDITS + STOP
    assert STOP not in CREDITS and b"".join(map(credit, range(MOST_SLOTS))) == CREDITS


def test_both_sides_of_the_ring_see_the_same_pictures() -> None:
    sizes = [(3, 4), (1, 2)]
    memory = mmap.mmap(-1, 2 * picture_bytes(sizes))
    written, read = (ring_slots(memory, 2, sizes) for _ in range(2))
    written[0][1], written[1][0] = 9, 7
    assert [each.shape for each in read] == [(2, 3, 4, 3), (2, 1, 2, 3)]
    assert int(read[0][0].max()) == 0 and int(read[0][1].min()) == 9
    assert int(read[1][0].min()) == 7 and int(read[1][1].max()) == 0
    for wrong in ((1, sizes), (2, sizes[:1])):
        with pytest.raises(ValueError, match="the ring has"):
            ring_slots(memory, *wrong)


@pytest.mark.parametrize(
    ("free", "last", "run", "slot"),
    [
        (range(8), -1, 0, 0),
        (range(8), 3, 0, 4),
        (range(8), 7, 0, 0),
        ({0, 1, 6}, 3, 0, 6),
        ({0, 1}, 3, 0, 0),
        (range(8), 3, 4, 0),  # memory that was written before
        ({0, 1, 2, 4, 5}, 3, 4, 4),  # a clip does not fit there yet
        (range(8), 2, 4, 3),  # a clip is not broken
        ({7, 0}, 5, 1, 0),
        ({7, 1}, 5, 1, 7),
    ],
)
def test_frames_lie_together(free: Collection[int], last: int, run: int, slot: int) -> None:
    assert next_slot(set(free), last, 8, run) == slot
