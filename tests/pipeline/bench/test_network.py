"""The networks in the race compute the same thing, and their ratios are those of their rates."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vadpipe.extractors.base import Precision, Runtime
from vadpipe.extractors.device.graphs import Recording
from vadpipe.extractors.device.inference import VideoNetwork
from vadpipe.pipeline.bench import network as bench_network
from vadpipe.pipeline.bench import race as bench
from vadpipe.pipeline.bench.race import Rate


def test_all_networks_are_there() -> None:
    found = {each.name: each for each in bench_network.subjects()}
    assert list(found) == ["inception_i3d", "i3d_r50", "i3d_r50_ptv", "vifi_clip"]
    assert all(each.flops > 1e9 for each in found.values())
    assert found["vifi_clip"].item == (1, 224, 224)


@pytest.mark.slow
def test_ratios_are_those_of_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_network, "CLIP", (8, 32, 32))
    monkeypatch.setitem(bench.MATMUL, "cpu", 128)
    values, lines = bench_network.bench_network(repeats=1, names=["inception_i3d", "i3d_r50"])
    rates, rows = values["rates"], values["networks"]
    for network in ("inception_i3d", "i3d_r50"):
        assert {f"plain {network} fp32", f"{network} fp32", "matmul fp32"} <= set(rates)
    for name, row in rows.items():
        network, precision = name.removeprefix("plain ").split()
        rate = rates[name]["median"]
        plain, peak = (rates[n]["median"] for n in (f"plain {network} fp32", f"matmul {precision}"))
        assert row["of_matmul"] == pytest.approx(rate * row["gflop"] / peak)
        assert row["batch"] >= 1 and row["gflop"] > 0
        if name.startswith("plain"):
            assert row["to_plain"] is None
        else:
            assert row["to_plain"] == pytest.approx(rate / plain)
            (form,) = row["first_layers"].values() or ["none"]
            (line,) = (each for each in lines if each.startswith(name))
            assert form == "none" or f"first layer {form}" in line
    assert len(lines) == 2 + len(rates)
    for line in lines[2:]:
        limited = "the limit" in line or "% of matmul" in line
        assert limited and ("the limit" in line or "plain" in line), "no row without a ratio"


class Means(torch.nn.Module):
    """Stands for a network."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().mean((2, 3, 4))


@pytest.mark.parametrize("works", [True, False])
def test_a_graph_is_raced_only_as_what_it_is(works: bool) -> None:
    """Recorded before its first turn; or the line says that nothing is replayed, and why."""
    replays: list[int] = []

    def record(network: Callable[[Tensor], Tensor], like: Tensor) -> Recording:
        if not works:
            raise RuntimeError("the stream is gone")
        given = torch.zeros_like(like)
        found = network(given).clone()

        def replay() -> None:
            replays.append(len(given))
            found.copy_(network(given))

        return Recording(given, found, replay)

    (subject,) = bench_network.subjects(["i3d_r50"])
    precision: Precision = "fp32"
    network = VideoNetwork(Means(), (0.0,) * 3, (1.0,) * 3, precision, Runtime(batch_size=2))
    network.use_graphs(record)
    videos = torch.randint(0, 256, (2, 2, 4, 4, 3), dtype=torch.uint8)
    if works:
        entry = bench_network._graph_entry(subject, precision, network, videos)
    else:
        with pytest.warns(UserWarning, match="CUDA graphs are off"):
            entry = bench_network._graph_entry(subject, precision, network, videos)
    before = len(replays)
    entry.run()
    assert len(replays) - before == int(works) and entry.batch == 2
    rates = {
        name: Rate("items/s", 2.0, 2.0)
        for name in ("i3d_r50 fp32 graph", "plain i3d_r50 fp32", "matmul fp32")
    }
    row = bench_network._row("i3d_r50 fp32 graph", rates, entry)
    line = bench_network._line("i3d_r50 fp32 graph", rates["i3d_r50 fp32 graph"], row)
    assert ("NOT REPLAYED" in line and "the stream is gone" in line) is not works
    assert "1.00 x plain" in line


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_graphs_are_contestants_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_network, "CLIP", (8, 64, 64))
    monkeypatch.setitem(bench.MATMUL, "cuda", 512)
    values, lines = bench_network.bench_network(repeats=1, device="cuda:0", names=["i3d_r50"])
    assert {f"i3d_r50 {p} graph" for p in ("fp32", "fp16")} <= set(values["networks"])
    assert not any("NOT REPLAYED" in line for line in lines)
