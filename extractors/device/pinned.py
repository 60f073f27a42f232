"""Pixels on their way to a GPU: through a few buffers of pinned memory that are used again.

A GPU fetches by itself only what lies in pinned memory, which the system cannot move. Pinning takes
longer than copying, and pinned memory is lost to everything else. So there are a few buffers: while
the device fetches one, the processor fills the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from queue import SimpleQueue
from threading import Lock
from typing import Protocol

import torch
from torch import Tensor

BUFFERS = 4  # for each device: several videos bring their clips at the same time
BUFFER_BYTES = 16 * 1024 * 1024


class Arrival(Protocol):
    """The end of a copy."""

    def synchronize(self) -> None:
        """Wait for it."""


class Copies(Protocol):
    """How bytes get to a device."""

    def buffer(self, size: int) -> Tensor:
        """(size,) uint8 of this machine that the device can fetch by itself."""

    def place(self, like: Tensor) -> Tensor:
        """Memory of the device for a tensor, contiguous."""

    def queue(self) -> AbstractContextManager[object]:
        """What is started while this is open runs in order, beside the networks of the device."""

    def start(self, there: Tensor, buffer: Tensor) -> Arrival:
        """Begin a copy out of a buffer; returns at once. Only while a queue is open."""


class _Buffer:
    """A buffer, and the copy that was last begun from it."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory
        self.arrival: Arrival | None = None

    def wait(self) -> None:
        if self.arrival is not None:
            self.arrival.synchronize()
            self.arrival = None


class PinnedRing:
    """Buffers that take turns; any number of threads may send through them.

    Args:
        copies:
            How bytes get to the device.
        buffers:
            How many there are; they are made when they are first needed.
        size:
            Bytes of each.
    """

    def __init__(self, copies: Copies, buffers: int = BUFFERS, size: int = BUFFER_BYTES) -> None:
        self._copies = copies
        self._size = size
        self._free: SimpleQueue[_Buffer | None] = SimpleQueue()
        for _ in range(buffers):
            self._free.put(None)

    def send(self, pixels: Sequence[Tensor]) -> list[Tensor]:
        """Bring tensors to the device; returns when all have arrived.

        Args:
            pixels:
                uint8, on this machine, of any shape and layout.

        Raises:
            RuntimeError: the device or the machine has no memory left.
        """
        arrivals: list[Arrival] = []
        with self._copies.queue():
            places = [self._copies.place(each) for each in pixels]
            for place, each in zip(places, pixels, strict=True):
                for there, here in pieces(place, each, self._size):
                    arrivals.append(self._piece(there, here))
        if arrivals:
            arrivals[-1].synchronize()  # one thread's copies end in the order in which they began
        return places

    def _piece(self, there: Tensor, here: Tensor) -> Arrival:
        buffer = self._free.get()
        try:
            if buffer is None:
                buffer = _Buffer(self._copies.buffer(self._size))
            buffer.wait()  # the device may still fetch what this buffer held
            part = buffer.memory[: here.numel()].view(here.shape)
            part.copy_(here)
            buffer.arrival = arrival = self._copies.start(there, part)
            return arrival
        finally:
            self._free.put(buffer)


def pieces(there: Tensor, here: Tensor, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Split two tensors of one shape into parts of at most `most` elements, along the first axes.

    A part of a contiguous tensor is contiguous.
    """
    if here.numel() <= most:
        if here.numel():
            yield there, here
        return
    rows = len(here) * most // here.numel()
    if rows:
        for first in range(0, len(here), rows):
            part = slice(first, first + rows)
            yield there[part], here[part]
        return
    for one_there, one_here in zip(there, here, strict=True):
        yield from pieces(one_there, one_here, most)


class CudaCopies:
    """Copies to a CUDA device, in a stream of their own.

    Args:
        device:
            "cuda:0", ...
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def buffer(self, size: int) -> Tensor:
        """Pinned memory."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def place(self, like: Tensor) -> Tensor:
        """Memory of the device."""
        return torch.empty(like.shape, dtype=like.dtype, device=self._device)

    def queue(self) -> AbstractContextManager[object]:
        """The stream of copies."""
        return torch.cuda.stream(self._stream)

    def start(self, there: Tensor, buffer: Tensor) -> Arrival:
        """Begin a copy."""
        there.copy_(buffer, non_blocking=True)
        # Blocking: a thread that waits leaves its core to those that decode.
        arrival = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        arrival.record(self._stream)
        return arrival


_rings: dict[str, PinnedRing] = {}
_lock = Lock()


def ring_of(device: str) -> PinnedRing:
    """The ring of a CUDA device; each process has one."""
    with _lock:  # several videos begin at the same time
        if device not in _rings:
            _rings[device] = PinnedRing(CudaCopies(device))
        return _rings[device]
