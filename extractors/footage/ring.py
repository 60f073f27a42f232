"""Pictures that a decoding process writes and this process reads, in memory that both see.

A picture is lent where there is room: it is a view of its slot, and the slot goes back to the
decoder once nothing refers to the view any more. Where slots run out, the picture is copied.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .decode_messages import picture_bytes

SPARE = 4  # slots that the decoder always has, so that it never waits for views


class Ring:
    """The slots of one request, as its reader sees them.

    Views may be dropped in any thread, and the garbage collector may do it at any time.

    Args:
        file: descriptor of the shared memory.
        slots: number of frames.
        sizes: (height, width) of each picture of a frame; there is one, or several sizes of it.
        lends: whether pictures may be views; else all are copies.
    """

    def __init__(
        self, file: int, slots: int, sizes: Sequence[tuple[int, int]], *, lends: bool
    ) -> None:
        self._file = file
        self._slots = slots
        self._most = slots - SPARE if lends else 0  # lent at once
        self._sizes = sizes
        whole = slots * picture_bytes(sizes)
        os.ftruncate(file, whole)
        self._memory = mmap.mmap(file, whole, access=mmap.ACCESS_READ)
        self._lent: dict[int, int] = {}  # slot -> its pictures that are in use
        self._back: deque[int] = deque()  # slots that the decoder does not know to be free yet
        self._lock = threading.RLock()  # a view may be collected while it is held
        self._over = False

    def take(self, slot: int) -> tuple[list[NDArray[np.uint8]], bool]:
        """The pictures of a slot.

        Args:
            slot: where the decoder says that it is.

        Returns:
            (H, W, 3) each, and whether few slots are left: `Frame.memory_scarce`.

        Raises:
            ValueError: there is no such slot, or the decoder does not have it.
        """
        if not 0 <= slot < self._slots:
            raise ValueError(f"no slot {slot}")
        places = self._places(slot)
        with self._lock:
            if slot in self._lent:
                raise ValueError(f"slot {slot} is not the decoder's")
            lent = len(self._lent) < self._most
            if lent:
                self._lent[slot] = len(places)
            else:
                self._back.append(slot)
            scarce = 2 * len(self._lent) > self._most
        if not lent:
            return [place.reshape(size).copy() for place, size in places], False
        for place, _ in places:  # views have it as their base
            weakref.finalize(place, self._return, slot).atexit = False
        return [place.reshape(size) for place, size in places], scarce

    def _places(self, slot: int) -> list[tuple[NDArray[np.uint8], tuple[int, int, int]]]:
        """The memory of the pictures of a slot, and their shapes; see `ring_slots`."""
        places, begin = [], 0
        for height, width in self._sizes:
            size = height * width * 3
            place = np.frombuffer(self._memory, np.uint8, size, begin + slot * size)
            places.append((place, (height, width, 3)))
            begin += self._slots * size
        return places

    def _return(self, slot: int) -> None:
        with self._lock:
            self._lent[slot] -= 1
            if self._lent[slot]:
                return
            del self._lent[slot]
            self._back.append(slot)
            self._empty()

    def freed(self) -> list[int]:
        """Slots that are free since the last call, in the order in which they became free."""
        with self._lock:
            slots = list(self._back)
            self._back.clear()
            return slots

    def close(self) -> bool:
        """End the request. The memory is freed with the last view.

        Returns:
            Whether nothing is lent any more, so that the file can be used again.
        """
        with self._lock:
            self._over = True
            self._empty()
            return not self._lent

    def leave(self) -> None:
        """End the request with its file, which is about to be closed; views stay as they are."""
        with self._lock:
            self._over = False

    def _empty(self) -> None:
        if self._over and not self._lent:
            os.ftruncate(self._file, 0)
            self._over = False
