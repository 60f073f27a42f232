"""What a process and its decoding process say to each other: messages over pipes, pixels in a ring.

The parent sends a REQUEST, then one CREDIT byte for each frame that it has copied out of the ring,
or STOP. The child answers with any number of FRAME messages, then one RESULT or ERROR; ALIVE may
come in between. Numbers and JSON only: nothing is ever unpickled.
"""

from __future__ import annotations

import mmap
import struct

import numpy as np
from numpy.typing import NDArray

HEAD = struct.Struct("<BI")  # kind of message, bytes of its payload
FRAME_PAYLOAD = struct.Struct("<qd?I")  # number, seconds, damaged, slot of the ring
FRAME, RESULT, ERROR, ALIVE, REQUEST = range(5)
CREDIT, STOP = b".", b"x"
MOST_JSON = 1 << 28  # bytes of a payload: a table of 10,000 key frames needs a thousandth of it
MOST_SLOTS = 64


def message(kind: int, payload: bytes) -> bytes:
    """A message as it goes over the pipe."""
    return HEAD.pack(kind, len(payload)) + payload


def ring_slots(memory: mmap.mmap, slots: int, height: int, width: int) -> NDArray[np.uint8]:
    """The pictures of a ring in shared memory: (slots, H, W, 3) uint8, no copy."""
    return np.frombuffer(memory, np.uint8).reshape(slots, height, width, 3)
