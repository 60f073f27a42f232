"""End to end: shares and ratios follow from what was measured."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.footage import write_coding
from vadpipe.pipeline.bench import extract as bench_extract
from vadpipe.pipeline.bench import race as bench
from vadpipe.pipeline.bench.extract import watched_memory


def test_peak_memory_sees_what_was_held() -> None:
    with watched_memory() as before:
        assert before() >= 0
    with watched_memory() as peak:
        held = np.ones(100 << 20, np.uint8)
        deadline = time.monotonic() + 300
        while peak() <= 100 << 20 and time.monotonic() < deadline:
            time.sleep(0.05)  # it looks ten times a second, if it gets to run
        del held
    assert peak() > 100 << 20


@pytest.mark.slow
def test_ratios_follow_from_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_extract, "FRAME", (32, 64))
    monkeypatch.setattr(bench_extract, "PATCHES", ((32, 32), (32, 64)))
    monkeypatch.setitem(bench.MATMUL, "cpu", 128)
    path = write_coding("h264-closed-mp4", tmp_path, 48)
    values, lines = bench_extract.bench_extract(path, precision="fp32")
    whole, cubes = values["best"]["whole frame"], values["best"]["patch cubes"]
    assert (whole["frames"], whole["clips"], cubes["clips"]) == (48, 3, 3)
    assert cubes["gflop"] > whole["gflop"] and 0 <= whole["waited"] <= 1
    costs = [run["seconds"] / run["gflop"] for run in (cubes, whole)]
    assert values["patch_cubes_cost_a_flop"] == pytest.approx(costs[0] / costs[1])
    assert len(lines) == 5 and "waited" in lines[2]
