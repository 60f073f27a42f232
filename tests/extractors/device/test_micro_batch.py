"""Batch sizes: the search, the memory of it, even parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.extractors.base import TUNING
from vadpipe.extractors.device import micro_batch
from vadpipe.extractors.device.micro_batch import (
    MicroBatches,
    even_parts,
    fastest,
    most_items,
    shared_sizes,
)
from vadpipe.extractors.errors import ExtractorError


@given(st.integers(0, 500), st.integers(1, 64))
def test_parts_cover_all_items_and_are_even(items: int, size: int) -> None:
    parts = list(even_parts(items, size))
    assert [i for part in parts for i in range(items)[part]] == list(range(items))
    lengths = [part.stop - part.start for part in parts]
    assert len(parts) == -(-items // size)
    assert not parts or (max(lengths) <= size and max(lengths) - min(lengths) <= 1)


@pytest.mark.parametrize(
    ("seconds", "items", "expected"),
    [
        (lambda n: 1 + 0.0 * n, 64, 64),  # a batch costs the same whatever its size
        (lambda n: float(n), 64, 1),  # no gain
        (lambda n: 1.0 + n, 64, 32),  # from 32 to 64 items are 1.5 % more a second
        (lambda n: n if n <= 4 else 3.0 * n, 64, 1),
        (lambda n: [9, 1, 1, 9, 1, 9, 9, 9][n.bit_length()], 64, 8),  # one bad one is passed over
        (lambda n: 1.0, 1, 1),
        (lambda n: 1.0, 0, 1),
    ],
)
def test_the_search(seconds, items: int, expected: int) -> None:  # type: ignore[no-untyped-def]
    assert fastest(lambda n: seconds(n) / 1e4, items) == (expected, True)


def test_the_search_ends_with_a_batch_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batch, "LONG_SECONDS", 1.0)
    tried: list[int] = []

    def measure(n: int) -> float:
        tried.append(n)
        return float(0.3 * n**0.9)  # each size is faster than the one before

    assert fastest(measure, 512) == (4, True)
    assert tried == [1, 2, 4]


def test_the_search_ends_where_memory_does() -> None:
    def measure(n: int) -> float:
        if n > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.001

    assert fastest(measure, 512) == (8, False)
    assert fastest(lambda n: measure(9), 512) == (0, False)

    def broken(n: int) -> float:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        fastest(broken, 4)


def test_sizes_are_measured_once_for_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tuning.json"
    calls: list[int] = []

    def measure(n: int) -> float:
        calls.append(n)
        return 0.001

    sizes = MicroBatches(path)
    assert [sizes.size("net 1x2x3", "cpu", 4, measure) for _ in range(3)] == [4, 4, 4]
    assert calls == [1, 2, 4]
    assert MicroBatches(path).size("net 1x2x3", "cpu", 4, measure) == 4 and len(calls) == 3
    assert sizes.shrink("net 1x2x3", "cpu", 4) == 2
    assert sizes.size("net 1x2x3", "cpu", 4, measure) == 2
    assert MicroBatches(path).size("net 1x2x3", "cpu", 4, measure) == 4, "of this process only"
    with pytest.raises(ExtractorError, match="single item of net"):
        sizes.shrink("net 1x2x3", "cpu", 1)


def test_what_is_found_while_memory_is_short_is_not_kept(tmp_path: Path) -> None:
    room = [2]

    def measure(n: int) -> float:
        if n > room[0]:
            raise MemoryError
        return 0.001

    path = tmp_path / "tuning.json"
    sizes = MicroBatches(path)
    assert [sizes.size("net", "cpu", 8, measure) for _ in range(2)] == [2, 2]
    assert not path.exists()
    room[0] = 0
    sizes = MicroBatches(path)
    for _ in range(2):
        with pytest.raises(ExtractorError, match="single item of net"):
            sizes.size("net", "cpu", 8, measure)
    room[0] = 8
    assert sizes.size("net", "cpu", 8, measure) == 8 and path.exists()


def test_what_was_shrunk_stays_so_when_another_shape_comes(tmp_path: Path) -> None:
    sizes = MicroBatches(tmp_path / "tuning.json")
    assert sizes.size("one", "cpu", 8, lambda n: 0.001) == 8
    assert sizes.shrink("one", "cpu", 8) == 4
    assert sizes.size("other", "cpu", 8, lambda n: 0.001) == 8
    assert sizes.size("one", "cpu", 8, lambda n: 0.001) == 4


def test_large_items_are_not_tried_in_large_batches() -> None:
    assert most_items(torch.empty(16, 224, 224, 3, dtype=torch.uint8), "cpu") == 12
    assert most_items(torch.empty(64, 1080, 1920, 3, dtype=torch.uint8), "cpu") == 1
    assert most_items(torch.empty(1, 2, 2, 3, dtype=torch.uint8), "cpu") == 1024


def test_each_cache_has_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "default"))
    own = shared_sizes(tmp_path / "own" / TUNING)
    assert own is shared_sizes(tmp_path / "own" / TUNING) and own is not shared_sizes()
    assert own.size("net fp32", "cpu", 4, lambda n: 0.001) == 4
    assert (tmp_path / "own" / TUNING).is_file() and not (tmp_path / "default").exists()
    assert shared_sizes().size("net fp32", "cpu", 1, lambda n: 0.001) == 1
    assert (tmp_path / "default" / TUNING).is_file()
