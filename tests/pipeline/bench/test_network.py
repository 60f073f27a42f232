"""The networks in the race compute the same thing, and their ratios are those of their rates."""

from __future__ import annotations

import pytest
import torch

from vadpipe.extractors.networks.inception_i3d import max_of_neighbours
from vadpipe.pipeline.bench import network as bench_network
from vadpipe.pipeline.bench import race as bench


def test_the_plain_pool_is_the_same_pool() -> None:
    x = torch.rand(2, 3, 4, 5, 6)
    assert torch.equal(bench_network._padded_max_pool(x), max_of_neighbours(x))


def test_all_networks_are_there() -> None:
    found = {each.name: each for each in bench_network.subjects()}
    assert list(found) == ["inception_i3d", "i3d_r50", "i3d_r50_ptv", "vifi_clip"]
    assert all(each.flops > 1e9 for each in found.values())
    assert found["vifi_clip"].item == (1, 224, 224)


@pytest.mark.slow
def test_ratios_are_those_of_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_network, "CLIP", (8, 32, 32))
    monkeypatch.setitem(bench.MATMUL, "cpu", 128)
    values, lines = bench_network.bench_network(repeats=1, names=["inception_i3d"])
    rates, rows = values["rates"], values["networks"]
    assert {"plain inception_i3d fp32", "inception_i3d fp32", "matmul fp32"} <= set(rates)
    for name, row in rows.items():
        rate = rates[name]["median"]
        plain, peak = (
            rates[n]["median"] for n in (bench_network.PLAIN, f"matmul {name.split()[1]}")
        )
        assert row["to_plain"] == pytest.approx(rate / plain)
        assert row["of_matmul"] == pytest.approx(rate * row["gflop"] / peak)
        assert row["batch"] >= 1 and row["gflop"] > 0
    assert len(lines) == 2 + len(rates)
