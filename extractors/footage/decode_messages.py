"""What a process and its decoding process say to each other: messages over pipes, pixels in a ring.

The parent sends a REQUEST, then a byte for each slot of the ring that the child may write again
(`credit`), or STOP. The child answers with any number of FRAME messages, then one RESULT or ERROR;
ALIVE may come in between. Numbers and JSON only: nothing is ever unpickled.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

HEAD = struct.Struct("<BI")  # kind of message, bytes of its payload
FRAME_PAYLOAD = struct.Struct("<qd?I")  # number, seconds, damaged, slot of the ring
FRAME, RESULT, ERROR, ALIVE, REQUEST = range(5)
MOST_JSON = 1 << 28  # bytes of a payload: a table of 10,000 key frames needs a thousandth of it
MOST_SLOTS = 64
STOP = b"x"
FIRST_CREDIT = 128  # credits are the bytes from here on, and begin no request
CREDITS = bytes(range(FIRST_CREDIT, FIRST_CREDIT + MOST_SLOTS))


def credit(slot: int) -> bytes:
    """The byte that says that a slot may be written again."""
    return CREDITS[slot : slot + 1]


def next_slot(free: AbstractSet[int], last: int, slots: int, run: int) -> int:
    """The slot for the next frame.

    Frames that come one after the other lie one after the other wherever that is possible: then a
    clip is a view of several slots. Memory that was written before is preferred to new one.

    Args:
        free: slots that may be written; at least one.
        last: that was written last; -1 at first.
        slots: of the ring.
        run: frames that need to lie together, from the first one on; 0 for all.
    """
    after = last + 1
    if run and after % run == 0 and free >= set(range(run)):
        return 0
    return min(free, key=lambda slot: (slot - after) % slots)


def message(kind: int, payload: bytes) -> bytes:
    """A message as it goes over the pipe."""
    return HEAD.pack(kind, len(payload)) + payload


def ring_slots(
    memory: mmap.mmap, slots: int, sizes: Sequence[tuple[int, int]]
) -> list[NDArray[np.uint8]]:
    """The pictures of a ring in shared memory, no copy: (slots, H, W, 3) uint8 for each size.

    Pictures of one size lie one after the other, so that neighbours are one clip for their reader.
    """
    found, at = [], 0
    for height, width in sizes:
        size = slots * height * width * 3
        pictures = np.frombuffer(memory, np.uint8, size, at)
        found.append(pictures.reshape(slots, height, width, 3))
        at += size
    if at != len(memory):
        raise ValueError(f"the ring has {len(memory)} bytes, and its pictures {at}")
    return found


def picture_bytes(sizes: Sequence[tuple[int, int]]) -> int:
    """Bytes of one slot: a picture of each size."""
    return sum(height * width * 3 for height, width in sizes)
