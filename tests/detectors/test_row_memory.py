"""RowMemory: the same rows from either place, buffers that are safe to use again."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.bags import ArrayRows
from vadpipe.detectors.base import DetectorError, FitOptions
from vadpipe.detectors.row_memory import Buffers, RowMemory, row_memories
from vadpipe.detectors.segments import ahead


def rows(dtype: Any = np.uint8) -> ArrayRows:
    rng = np.random.default_rng(0)
    shapes = [(5, 2, 3), (0, 2, 3), (8, 2, 3)]
    return ArrayRows([rng.integers(0, 99, shape).astype(dtype) for shape in shapes])


@pytest.mark.parametrize("dtype", ["uint8", "float16", "int64", "bool"])
@pytest.mark.parametrize("threads", [1, 3])
def test_resident_and_mapped_rows_are_the_same(dtype: str, threads: int) -> None:
    known = rows(dtype)
    resident = RowMemory(known)
    mapped = RowMemory(known, options=FitOptions(memory=0, prefetch=3), threads=threads)
    assert (resident.resident, mapped.resident) == (True, False)
    assert (resident.prefetch, mapped.prefetch) == (0, 3)
    video, start = np.array([2, 0, 2]), np.array([4, 1, 0])
    for length, step in ((2, 1), (2, 3), (1, 1)):
        expected = np.stack(
            [
                known.arrays[v][s : s + (length - 1) * step + 1 : step]
                for v, s in zip(video, start, strict=True)
            ]
        )
        for memory in (resident, mapped):
            batch = memory.read(video, start, length, step)
            assert batch.device.type == "cpu"
            np.testing.assert_array_equal(batch.numpy(), expected, strict=True)
    resident.close()
    mapped.close()


def test_resident_rows_are_read_once_and_the_loading_is_reported() -> None:
    known, seen = rows(), []
    memory = RowMemory(known, options=FitOptions(on_load=lambda *done: seen.append(done)))
    loaded = known.reads
    memory.read(np.array([0]), np.array([0]), 2)
    assert known.reads == loaded == 3 and seen == [(1, 3), (2, 3), (3, 3)]


def test_the_given_memory_decides_to_the_byte() -> None:
    size = 13 * 2 * 3
    assert RowMemory(rows(), options=FitOptions(memory=size)).resident
    assert not RowMemory(rows(), options=FitOptions(memory=size - 1)).resident


def test_a_buffer_is_used_again_only_when_nothing_refers_to_it() -> None:
    memory = RowMemory(rows(), options=FitOptions(memory=0))
    video, start = np.array([2, 2]), np.array([0, 3])
    first = memory.read(video, start, 2)
    part, kept = first[1:, 0], first.clone()
    del first  # a view is left
    for _ in range(3):
        memory.read(video, start + 1, 2)  # dropped at once: one more buffer for all
    gc.collect()
    assert memory.buffers_made == 2
    np.testing.assert_array_equal(part.numpy(), kept[1:, 0].numpy())
    del part
    one, two = memory.read(video, start, 2), memory.read(video, start, 2)
    assert memory.buffers_made == 2 and one.data_ptr() != two.data_ptr()


def test_batches_that_are_read_ahead_never_share_a_buffer() -> None:
    known = rows()
    memory = RowMemory(known, options=FitOptions(memory=0, prefetch=2), threads=2)

    def load(turn: int) -> torch.Tensor:
        return memory.read(np.array([2]), np.array([turn % 7]), 2)

    for turn, batch in enumerate(ahead(load, range(40), memory.prefetch)):
        np.testing.assert_array_equal(batch[0].numpy(), known.arrays[2][turn % 7 : turn % 7 + 2])
    assert memory.buffers_made <= 5  # one in use, two ahead, one being loaded, one just left


def test_buffers_of_other_sizes_do_not_mix() -> None:
    buffers = Buffers()
    a = buffers.take((2, 3), np.dtype("float32"))
    assert a.shape == (2, 3) and a.dtype == np.float32 and a.flags.writeable
    del a
    assert buffers.take((6,), np.dtype("float32")).shape == (6,) and buffers.made == 1
    buffers.take((7,), np.dtype("float32"))
    assert buffers.made == 2


@pytest.mark.parametrize(
    ("video", "start", "said"),
    [
        (0, 4, "from row 4 are not in video 'v0': it has 5"),
        (1, 0, "'v1': it has 0"),
        (2, -1, "from row -1 are not in video 'v2'"),
    ],
)
@pytest.mark.parametrize("memory", [0, None])
def test_a_window_never_reaches_into_another_video(
    video: int, start: int, said: str, memory: int | None
) -> None:
    held = RowMemory(rows(), options=FitOptions(memory=memory))
    with pytest.raises(DetectorError, match=said):
        held.read(np.array([2, video]), np.array([0, start]), 2)


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    class Damaged(ArrayRows):
        def read_into(self, out: Any, video: int, start: int) -> None:
            raise OSError("gone")

    memory = RowMemory(Damaged([np.zeros((4, 1))]), options=FitOptions(memory=0), threads=2)
    with pytest.raises(OSError, match="gone"):
        memory.read(np.array([0, 0]), np.array([0, 1]), 2)


def test_values_that_torch_has_no_type_for_are_refused() -> None:
    with pytest.raises(DetectorError, match="<U3: a network cannot read them"):
        RowMemory(ArrayRows([np.array(["abc"])]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_rows_on_a_gpu_are_the_same() -> None:
    known = rows()
    video, start = np.array([2, 0, 2]), np.array([4, 1, 0])
    expected = RowMemory(known).read(video, start, 2, 3)
    for memory in (None, 0):
        held = RowMemory(known, device="cuda", options=FitOptions(memory=memory))
        batch = held.read(video, start, 2, 3)
        assert held.resident == (memory is None) and batch.device.type == "cuda"
        np.testing.assert_array_equal(batch.cpu().numpy(), expected.numpy(), strict=True)


@pytest.mark.parametrize("short", [0, 1])
def test_several_roles_share_one_limit(short: int) -> None:
    known, limit = rows(), 2 * 13 * 2 * 3 - short
    source: Any = SimpleNamespace(video_rows=lambda role: known)
    seen: list[Any] = []
    options = FitOptions(memory=limit, on_load=lambda *done: seen.append(done))
    with row_memories(source, "ab", device="cpu", options=options) as memories:
        assert [memory.resident for memory in memories] == [True, not short]
        assert sum(memory.resident_bytes for memory in memories) <= limit
    assert not any(memory.resident for memory in memories), "they are closed"
    assert len(seen) == 3, "one bar"
