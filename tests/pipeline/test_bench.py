"""The bench: its contestants compute the same thing, its ratios are those of its rates."""

from __future__ import annotations

import pytest
import torch

from vadpipe.extractors.inception_i3d import max_of_neighbours
from vadpipe.pipeline import bench


def test_the_plain_pool_is_the_same_pool() -> None:
    x = torch.rand(2, 3, 4, 5, 6)
    assert torch.equal(bench._padded_max_pool(x), max_of_neighbours(x))


@pytest.mark.slow
def test_ratios_are_those_of_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "CLIP", (8, 64, 64))
    monkeypatch.setattr(bench, "MATMUL", 128)
    values, lines = bench.bench_i3d(repeats=2)
    rates = values["rates"]
    assert {"plain fp32 loop", "ours fp32", "matmul fp32", "decode 320x240 H.264"} <= set(rates)
    for rate in rates.values():
        assert rate["best"] >= rate["median"] > 0
    for name, ratio in values["ratio_to_plain"].items():
        expected = rates[name]["median"] / rates["plain fp32 loop"]["median"]
        assert ratio["median"] == pytest.approx(expected)
    assert len(lines) == 2 + len(rates)
    assert values["gflop_per_clip"] > 0
