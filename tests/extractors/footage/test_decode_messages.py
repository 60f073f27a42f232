"""Messages and the ring between a process and its decoding process."""

from __future__ import annotations

import mmap

import pytest

from vadpipe.extractors.footage.decode_messages import (
    CREDIT,
    FRAME,
    FRAME_PAYLOAD,
    HEAD,
    REQUEST,
    STOP,
    message,
    ring_slots,
)


def test_a_message_says_its_kind_and_length() -> None:
    payload = FRAME_PAYLOAD.pack(7, 0.25, True, 3)
    data = message(FRAME, payload)
    assert HEAD.unpack(data[: HEAD.size]) == (FRAME, len(payload))
    assert FRAME_PAYLOAD.unpack(data[HEAD.size :]) == (7, 0.25, True, 3)


def test_no_request_begins_like_a_credit_or_a_stop() -> None:
    """The child drops those at the front of a request: they belong to the one before."""
    assert message(REQUEST, b"{}")[:1] not in (CREDIT, STOP)


def test_both_sides_of_the_ring_see_the_same_pictures() -> None:
    memory = mmap.mmap(-1, 2 * 3 * 4 * 3)
    written, read = (ring_slots(memory, 2, 3, 4) for _ in range(2))
    written[1] = 9
    assert read.shape == (2, 3, 4, 3)
    assert int(read[0].max()) == 0 and int(read[1].min()) == 9
    with pytest.raises(ValueError, match="reshape"):
        ring_slots(memory, 3, 3, 4)
