"""Buffers that are used again: never while the device may still fetch what they hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vadpipe.extractors.device.pinned import CudaCopies, PinnedRing, pieces


class Late:
    """A device that fetches as late as it may: when its order of copies is waited for."""

    def __init__(self) -> None:
        self.begun: list[tuple[Tensor, Tensor]] = []
        self.buffers = 0
        self.largest = 0
        self._lock = threading.Lock()
        self._open = threading.local()

    def buffer(self, size: int) -> Tensor:
        with self._lock:
            self.buffers += 1
        return torch.zeros(size, dtype=torch.uint8)

    def place(self, like: Tensor) -> Tensor:
        return torch.zeros(like.shape, dtype=like.dtype)

    @contextmanager
    def queue(self) -> Iterator[None]:
        self._open.here = True
        try:
            yield
        finally:
            self._open.here = False

    def start(self, there: Tensor, buffer: Tensor) -> Arriving:
        assert self._open.here and there.is_contiguous()
        with self._lock:
            self.begun.append((there, buffer))
            self.largest = max(self.largest, buffer.numel())
            return Arriving(self, len(self.begun))

    def fetch(self, first: int) -> None:
        with self._lock:
            for place, (there, buffer) in enumerate(self.begun[:first]):
                if there is not buffer:
                    there.copy_(buffer)
                    self.begun[place] = (there, there)


class Arriving:
    """The end of one copy and of all that began before it."""

    def __init__(self, device: Late, first: int) -> None:
        self._device, self._first = device, first

    def synchronize(self) -> None:
        self._device.fetch(self._first)


def clip(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("size", [7, 64, 100, 1_000, 100_000])
@pytest.mark.parametrize("buffers", [1, 2, 4])
def test_every_byte_arrives_whatever_the_buffers_hold(size: int, buffers: int) -> None:
    device = Late()
    ring = PinnedRing(device, buffers, size)
    large = clip(6, 9, 11, 3)
    sent = [clip(5, 8, 9, 3), large[:, 1:6, 2:9], clip(3, 4, 3), large.flip(-2), clip(0, 4, 4, 3)]
    for _ in range(3):
        found = ring.send(sent)
        assert all(torch.equal(a, b) for a, b in zip(found, sent, strict=True))
    assert 1 <= device.buffers <= buffers and device.largest <= size


def test_buffers_are_made_when_they_are_needed_and_once() -> None:
    device = Late()
    ring = PinnedRing(device, buffers=3, size=50)
    assert device.buffers == 0 and ring.send([]) == [] and device.buffers == 0
    for seed in range(20):
        ring.send([clip(4, 5, 5, 3, seed=seed)])
    assert device.buffers == 3


def test_threads_share_the_buffers() -> None:
    device = Late()
    ring = PinnedRing(device, buffers=2, size=40)
    wrong: list[int] = []

    def send(seed: int) -> None:
        for turn in range(5):
            sent = [clip(3, 5, 7, 3, seed=100 * seed + turn + n) for n in range(2)]
            found = ring.send(sent)
            if not all(torch.equal(a, b) for a, b in zip(found, sent, strict=True)):
                wrong.append(seed)

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and device.buffers == 2


def test_a_buffer_that_could_not_be_used_is_not_lost() -> None:
    class Full(Late):
        left = 3

        def start(self, there: Tensor, buffer: Tensor) -> Arriving:
            self.left -= 1
            if self.left == 0:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().start(there, buffer)

        def buffer(self, size: int) -> Tensor:
            if self.left == 3 and self.buffers == 0:
                self.buffers = 1
                raise RuntimeError("cannot pin memory")
            return super().buffer(size)

    ring = PinnedRing(Full(), buffers=1, size=60)
    with pytest.raises(RuntimeError, match="cannot pin"):
        ring.send([clip(4, 4, 4, 3)])
    with pytest.raises(torch.OutOfMemoryError):
        ring.send([clip(4, 4, 4, 3)])
    sent = clip(4, 4, 4, 3, seed=1)
    assert torch.equal(ring.send([sent])[0], sent)  # with no buffer left this would wait for ever


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 200))
def test_pieces_are_a_partition(shape: list[int], most: int) -> None:
    there, here = torch.zeros(shape, dtype=torch.uint8), clip(*shape)
    for one_there, one_here in pieces(there, here, most):
        assert one_here.numel() <= most and one_there.is_contiguous()
        assert not one_there.any(), "each byte once"
        one_there.copy_(one_here)
    assert torch.equal(there, here)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pixels_arrive_on_a_gpu() -> None:
    ring = PinnedRing(CudaCopies("cuda:0"), buffers=2, size=100_000)
    for seed in range(5):
        sent = [clip(16, 64, 96, 3, seed=seed), clip(4, 33, 47, 3, seed=seed).flip(-2)]
        found = ring.send(sent)
        assert all(each.is_cuda for each in found)
        assert all(torch.equal(a.cpu(), b) for a, b in zip(found, sent, strict=True))
