"""The bench of scoring: every way runs, and the table has ratio and shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vadpipe.pipeline.bench import scoring as bench
from vadpipe.pipeline.bench.scoring import ScoringProblem, bench_scoring

WAYS = [
    *(bench.IN_TURN, bench.OVERLAPPED, bench.READING),
    *(bench.COMPUTING, bench.TOGETHER, bench.WRITING),
]


def test_every_way_has_a_rate() -> None:
    problem = ScoringProblem(videos=2, rows=4, crops=1, width=16)
    values, lines = bench_scoring(repeats=1, problem=problem)
    assert list(values["detectors"]) == list(values["short"]) == ["mil_ranking", "rtfm"]
    for found in [*values["detectors"].values(), *values["short"].values()]:
        rates = {name: rate["best"] for name, rate in found["rates"].items()}
        assert list(rates) == WAYS
        assert found["together"] == rates[bench.TOGETHER] / rates[bench.COMPUTING]
        assert found["ratio"] == rates[bench.OVERLAPPED] / rates[bench.IN_TURN]
        assert found["shares"][bench.READING] == rates[bench.IN_TURN] / rates[bench.READING]
    assert len(lines) == 2 + 2 * (1 + 2 * (len(WAYS) + 1))


def test_both_ways_write_equal_scores(tmp_path: Path) -> None:
    problem = ScoringProblem(videos=3, rows=5, crops=2, width=16)
    bags = bench._write(tmp_path, problem)
    detector = bench._ready(bench.MILRanking(bench.MILRankingConfig()), problem, "cpu")
    parts = []
    for name in WAYS[:2]:
        folder = bench.ScoreFolder(tmp_path / name)
        bench._Ways(detector, bags, folder).contestants()[name]()
        parts.append([folder.scores(f"v{i}") for i in range(3)])
    for alone, together in zip(*parts, strict=True):
        assert len(alone) == 5 and alone.drop_columns("score") == together.drop_columns("score")
        scores = [part["score"].to_numpy() for part in (alone, together)]
        np.testing.assert_allclose(*scores, rtol=1e-5)
