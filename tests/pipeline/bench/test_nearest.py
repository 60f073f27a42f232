"""The bench of the search: every way has a rate, and both searches find the same distances."""

from __future__ import annotations

import pytest

from vadpipe.pipeline.bench import nearest as bench
from vadpipe.pipeline.bench.nearest import BEFORE, OURS, PRODUCT, bench_nearest


def test_both_ways_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WIDTH", 16)
    monkeypatch.setattr(bench, "MATMUL", {"cpu": 32})
    values, lines = bench_nearest(rows=50, repeats=1)
    rates = {name: rate["best"] for name, rate in values["rates"].items()}
    assert set(rates) == {BEFORE, OURS, PRODUCT}
    assert values["largest_difference"] < 1e-12
    assert values["ratio"] == rates[OURS] / rates[BEFORE]
    assert values["share_of_matmul"] == rates[OURS] / rates[PRODUCT]
    assert "5 queries, 50 rows" in lines[1] and len(lines) == 2 + 3 + 1
