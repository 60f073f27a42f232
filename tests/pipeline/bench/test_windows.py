"""The bench of windows: all ways read the same pixels, and each has a rate."""

from __future__ import annotations

import numpy as np
import pytest

from vadpipe.pipeline.bench import windows as bench
from vadpipe.pipeline.bench.windows import WindowProblem, bench_windows

SMALL = WindowProblem(length=3, size=(4, 5), frames=9, batch=2, batches=3)


def test_every_way_has_a_rate() -> None:
    values, lines = bench_windows(videos=3, repeats=1, problem=SMALL)
    names = ["version 0.1", "mapped", "mapped, prefetch threads", "resident"]
    assert list(values["rates"]) == [*names, bench.COPY]
    assert list(values["to_version_0_1"]) == names and values["to_version_0_1"]["version 0.1"] == 1
    medians = {name: rate["median"] for name, rate in values["rates"].items()}
    for name, share in values["of_copying"].items():
        assert share == pytest.approx(medians[name] / medians[bench.COPY])
    assert all(rate["median"] > 0 for rate in values["rates"].values())
    assert "3 x 4 x 5 x 3 uint8 out of 3 videos of 9 frames" in lines[1]
    assert len(lines) == 2 + len(names) + 1
    assert all("% of copying" in line for line in lines[2:-1]) and "the limit" in lines[-1]


def test_other_pixels_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_old_slice", lambda *_: np.full((3, 4, 5, 3), 7, np.uint8))
    with pytest.raises(RuntimeError, match="mapped reads other pixels than version"):
        bench_windows(videos=1, repeats=1, problem=SMALL)
