"""Start-up: the ratios are those of the times, and a failing command is no fast one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vadpipe.pipeline.bench.startup import (
    CLICK,
    COMMANDS,
    EMPTY,
    LEAST_SECONDS,
    bench_startup,
    cpu_seconds,
)


def test_ratios_follow_from_the_times() -> None:
    values, lines = bench_startup(repeats=2)
    rows = values["commands"]
    assert list(rows) == list(COMMANDS) and len(lines) == 2 + len(rows)
    assert rows[EMPTY]["best_ratio"] == rows[EMPTY]["median_ratio"] == 1
    assert rows[CLICK]["to_click"] == 1
    start = rows[EMPTY]["median_seconds"]
    own = {n: max(LEAST_SECONDS, row["median_seconds"] - start) for n, row in rows.items()}
    for name, row in rows.items():
        assert row["to_click"] == own[name] / own[CLICK]
        assert 0 < row["best_seconds"] <= row["median_seconds"]
        assert row["best_ratio"] == row["best_seconds"] / rows[EMPTY]["best_seconds"]
    assert rows["vadpipe --help"]["best_ratio"] > 1


def test_the_time_is_that_of_the_command() -> None:
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    assert cpu_seconds([sys.executable, "-c", busy], os.environ) >= 0.5
    asleep = "import time; time.sleep(1.5)"
    assert cpu_seconds([sys.executable, "-S", "-c", asleep], os.environ) < 1.0


def test_a_command_that_fails_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        cpu_seconds([sys.executable, "-c", "raise SystemExit(3)"], os.environ)
