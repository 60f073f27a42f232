"""What the engine costs: everything that is counted was done."""

from __future__ import annotations

import pytest

from vadpipe.pipeline.bench.engine import PLAIN_READ, bench_engine, bench_index


@pytest.mark.slow
def test_spans_through_both_engines() -> None:
    values, lines = bench_engine(spans=8)
    for row in values["ways"].values():
        assert 0 < row["write_ms"] < row["task_ms"] and row["seconds"] > 0
        assert row["scheduling_ms"] > 0
    assert len(lines) == 2 + len(values["ways"])
    for line, row in zip(lines[2:], values["ways"].values(), strict=True):
        share = row["task_ms"] / (row["task_ms"] + row["scheduling_ms"])
        assert f"({100 * share:.0f} % of its time)" in line


def test_a_small_index() -> None:
    values, lines = bench_index(shards=10_000)
    assert values["shards"] == 10_000 and all(t >= 0 for t in values["seconds"].values())
    assert "10,000 shards of 1,000 videos" in lines[1]
    assert PLAIN_READ in lines[2] and all(line.endswith(" x") for line in lines[2:])
