"""The race that all benches share."""

from __future__ import annotations

import pytest

from vadpipe.pipeline.bench import race as bench
from vadpipe.pipeline.bench.race import Contestant, hardware, matmul, race


def test_all_take_turns_after_one_to_warm_up() -> None:
    calls: list[str] = []
    contestants = [
        Contestant(name, "runs/s", amount, lambda name=name: calls.append(name))  # type: ignore[misc]
        for name, amount in (("a", 1.0), ("b", 10.0))
    ]
    rates = race(contestants, 3)
    assert calls == ["a", "b"] * 4
    for rate in rates.values():
        assert rate.best >= rate.median > 0 and rate.unit == "runs/s"


def test_amounts_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(bench.time, "perf_counter", lambda: float(next(clock)))
    rates = race([Contestant("a", "x", 7.0, lambda: None)], 4)
    assert (rates["a"].best, rates["a"].median) == (7.0, 7.0)


def test_the_peak_and_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.MATMUL, "cpu", 64)
    peak = matmul("fp32")
    assert peak.amount == 2 * 64**3 / 1e9 and race([peak], 1)[peak.name].best > 0
    facts = hardware()
    assert facts["processor"] and int(facts["cores"]) >= 1 and "gpu" not in facts
