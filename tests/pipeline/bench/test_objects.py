"""Objects end to end: shares follow from the rates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.footage import write_coding
from vadpipe.pipeline.bench.objects import CASES, bench_objects


def test_shares_follow_from_the_rates(tmp_path: Path) -> None:
    path = write_coding("h264-closed-mp4", tmp_path, 12)
    values, lines = bench_objects(path, detector="motion")
    rates, shares = values["frames_per_second"], values["share_of_the_detector"]
    assert shares.keys() == CASES.keys()
    for name in CASES:
        assert shares[name] == pytest.approx(rates[name] / rates["detector alone"])
    assert values["objects_a_frame"] >= 0 and values["detector"] == "motion"
    assert all(0 <= values["share_of_writing"][name] <= 1 for name in CASES)
    assert len(lines) == 2 + 1 + len(CASES) and "of the detector alone" in lines[-1]
