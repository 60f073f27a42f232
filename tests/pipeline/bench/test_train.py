"""The training bench at a small size: it trains every stage, and its counts are closed forms."""

from __future__ import annotations

import pytest

from vadpipe.extractors.device.inference import available_precisions
from vadpipe.pipeline.bench.train import ProblemSize, bench_train


def test_every_stage_is_measured_and_counts_are_those_of_the_layers() -> None:
    values, lines = bench_train(
        repeats=1, size=ProblemSize(pairs=2, crops=2, width=32, minutes=0.5)
    )
    names = ["1 full frame", "2 2x3", "3 3x5", "4 4x7"]
    measured = [
        f"{name} {precision}"
        for precision in ("fp32", "bf16")
        if precision in available_precisions("cpu")
        for name in ("rtfm", "ssrl")
    ]
    assert list(values["train"]) == ["published loop fp32", *measured]
    for name, facts in values["train"].items():
        assert list(facts["stages"]) == (["rtfm"] if "rtfm" in name else names)
        for stage in facts["stages"].values():
            assert stage["data"] + stage["forward"] + stage["backward"] == pytest.approx(1)
            assert stage["iterations_per_second"] > 0
            assert stage["share_of_matmul"] > 0
            assert (stage["to_published"] is None) == ("rtfm" in name)
        if not name.startswith("published"):
            scoring = values["score"][name]
            assert scoring["hours_per_second"] > 0
            assert scoring["share_of_matmul"] > 0
            assert scoring["reading"] > 0
    stages = {name: facts["stages"] for name, facts in values["train"].items()}
    published, ours = stages["published loop fp32"], stages["ssrl fp32"]
    assert all(stage["to_published"] == 1 for stage in published.values())
    # The loop runs frozen branches again, and multiplies by padding.
    assert published["4 4x7"]["gflop"] > 1.2 * ours["4 4x7"]["gflop"]
    # D = 32, 64 positions: multiply-adds of every convolution and linear layer, twice
    d, q, n, half = 32, 8, 64, 4
    relation = 3 * 3 * d * q + d * q + 3 * q * half + half * q + 3 * d * d
    attention = 2 * n * 32 * half  # two products over 32 segments each
    classifier = d * 512 + 512 * 128 + 128
    expected = 2 * (n * (relation + classifier) + attention)
    assert values["train"]["rtfm fp32"]["gflop_per_video"] * 1e9 == pytest.approx(
        expected, rel=0.01
    )
    assert any("iterations/s" in line for line in lines)
