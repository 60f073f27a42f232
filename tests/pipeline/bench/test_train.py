"""The training bench at a small size: it trains every stage, and its counts are closed forms."""

from __future__ import annotations

import pytest

from vadpipe.pipeline.bench.train import ProblemSize, bench_train


def test_every_stage_is_measured_and_counts_are_those_of_the_layers() -> None:
    values, lines = bench_train(steps=1, size=ProblemSize(pairs=2, crops=2, width=32, minutes=0.5))
    assert list(values["train"]["ssrl"]["stages"]) == [
        "1 full frame",
        "2 2x3",
        "3 3x5",
        "4 4x7",
    ]
    assert list(values["train"]["rtfm"]["stages"]) == ["rtfm"]
    for name in ("rtfm", "ssrl"):
        for stage in values["train"][name]["stages"].values():
            assert stage["data"] + stage["forward"] + stage["backward"] == pytest.approx(1)
            assert stage["iterations_per_second"] > 0
        assert values["score"][name] > 0
    # D = 32, 64 positions: multiply-adds of every convolution and linear layer, twice
    d, q, n, half = 32, 8, 64, 4
    relation = 3 * 3 * d * q + d * q + 3 * q * half + half * q + 3 * d * d
    attention = 2 * n * 32 * half  # two products over 32 segments each
    classifier = d * 512 + 512 * 128 + 128
    expected = 2 * (n * (relation + classifier) + attention)
    assert values["train"]["rtfm"]["gflop_per_video"] * 1e9 == pytest.approx(expected, rel=0.01)
    assert any("iterations/s" in line for line in lines)
