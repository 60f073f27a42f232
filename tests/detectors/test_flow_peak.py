"""flow_peak: a slow oracle over all windows, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from tests.bags import Bags, bag
from vadpipe.detectors import cells
from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.flow_peak import FlowPeak, FlowPeakConfig

FLOW = np.random.default_rng(0).normal(0, 3, (5, 12, 8, 2)).astype(np.float16)


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_scores_equal_a_slow_oracle(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of 2 x 2 pixels, windows of 3 x 2 cells: windows of 6 x 4 pixels every 2 pixels."""
    monkeypatch.setattr(cells, "BLOCK_BYTES", rows * FLOW[0].nbytes)
    detector = FlowPeak(FlowPeakConfig(cells=(6, 4), window=(3, 2)))
    scores = detector.score(bag("a", {"flow": FLOW}))
    for t in range(5):
        speed = np.sqrt((FLOW[t].astype(np.float64) ** 2).sum(-1))
        windows = [
            speed[y : y + 6, x : x + 4].mean() for y in range(0, 7, 2) for x in range(0, 5, 2)
        ]
        assert scores.columns["score"][t] == pytest.approx(max(windows), rel=1e-12)
        mean = [
            [speed[y : y + 2, x : x + 2].mean() for x in range(0, 8, 2)] for y in range(0, 12, 2)
        ]
        assert scores.maps["speed"][t] == pytest.approx(np.array(mean), rel=1e-6)


def test_the_fastest_place_decides() -> None:
    flow = np.zeros((2, 32, 32, 2), np.float16)
    flow[1, 8:16, 10:14] = (3, 4)
    detector = FlowPeak(FlowPeakConfig(cells=(16, 16), window=(4, 2)))
    assert detector.score(bag("a", {"flow": flow})).columns["score"].tolist() == [0, 5]


def test_nothing_is_learned() -> None:
    detector, source = FlowPeak(FlowPeakConfig(cells=(6, 4))), Bags([bag("a", {"flow": FLOW})])
    assert detector.fit(source, device="cpu", seed=0).summary == {"videos": 1}
    held_out = detector.held_out_scores(source, seed=0)
    assert held_out is not None
    assert np.array_equal(held_out[0].columns["score"], detector.score(source[0]).columns["score"])


def test_windows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"window of \(4, 2\) cells does not fit"):
        FlowPeakConfig(cells=(3, 8))
    with pytest.raises(DetectorError, match=r"12 x 8 has fewer pixels than \(32, 32\) cells"):
        FlowPeak(FlowPeakConfig()).score(bag("a", {"flow": FLOW}))
