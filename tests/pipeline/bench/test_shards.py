"""The bench of shards: every way reads, and each has a time."""

from __future__ import annotations

import pytest

from vadpipe.pipeline.bench import shards as bench
from vadpipe.pipeline.bench.ratios import RATIOS
from vadpipe.pipeline.bench.shards import bench_shards


def test_every_way_has_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ROWS", 4)
    values, lines = bench_shards(count=2, repeats=1)
    ways = ["format 2, before", "format 2", "format 3, sealed", bench.BYTES]
    assert list(values["seconds"]) == ways
    assert all(0 < each["best"] <= each["median"] for each in values["seconds"].values())
    assert values["shards"] == 2 and len(lines) == 2 + 4
    assert all("x the bytes alone" in line for line in lines[2:])
    assert not any("bytes" in name for name in RATIOS["shards"](values)), "the limit guards nothing"
