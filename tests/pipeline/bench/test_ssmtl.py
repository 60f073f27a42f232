"""SSMTL's bench: shares follow from the rates, and the convolutions are those of the network."""

from __future__ import annotations

from typing import Any

import pytest

from vadpipe.pipeline.bench import ssmtl
from vadpipe.pipeline.bench.ssmtl import ALONE, EACH, MAP, NETWORK, WHOLE, bench_ssmtl


def test_shares_follow_from_the_rates(monkeypatch: Any) -> None:
    monkeypatch.setattr(ssmtl, "SIDE", 16)
    drawn = ssmtl.drawn_objects
    monkeypatch.setattr(ssmtl, "drawn_objects", lambda frames: drawn(frames, 16))
    replayed: list[Any] = []
    recorded = ssmtl.recorded
    monkeypatch.setattr(ssmtl, "recorded", lambda *a: replayed.append(recorded(*a)) or replayed[0])
    values, lines = bench_ssmtl(repeats=1, frames=2)
    rates = {name: rate["best"] for name, rate in values["rates"].items()}
    assert rates.keys() == {ALONE, NETWORK, WHOLE, MAP, "matmul fp32"}
    shares = values["of_matmul"]
    for name in (ALONE, NETWORK, WHOLE):
        gflop = values["gflop_of_convolutions"]
        assert shares[name] == pytest.approx(gflop * rates[name] / rates["matmul fp32"])
    assert sum("% of matmul" in line for line in lines) == 3
    assert values["share_of_convolutions"] == pytest.approx(rates[WHOLE] / rates[ALONE])
    assert values["frames_per_second"] == pytest.approx(rates[WHOLE] / EACH)
    assert values["map_share"] == pytest.approx(rates[WHOLE] / EACH / rates[MAP])
    # Time and gaps share one run of three convolutions; the middle and the teachers have their own.
    shapes = [tuple(x.shape[1:3]) for _, x in replayed[0]]
    assert shapes == [(c, t) for t in (7, 6, 1) for c in (3, 16, 32)]
    assert "asked 40 %" in lines[-2] and "target 23" in lines[-2]
    assert "map" in lines[-1] and "paper: under 1 ms" in lines[-1]
