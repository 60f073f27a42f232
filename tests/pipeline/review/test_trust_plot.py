"""The calibration plot of the page is that of `vadpipe threshold`, by the same held-out rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.browsers import Opened, chromium
from tests.score_folders import rows, write_score_folder
from vadpipe.pipeline.review.stage import write_review
from vadpipe.pipeline.review.trust_plot import trust_plot
from vadpipe.pipeline.scores.columns import thresholds_from
from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.scores.trust import BY_ROWS


def scored(path: Path, videos: int = 4) -> ScoreFolder:
    rng = np.random.default_rng(0)
    held_out = {f"n{k}": rows(rng.normal(size=400)) for k in range(videos)}
    return write_score_folder(path, {"a": rows(rng.normal(size=60))}, held_out)


def test_stated_and_measured_shares_are_those_of_rows_that_were_left_out(tmp_path: Path) -> None:
    folder = scored(tmp_path / "out")
    found = trust_plot(folder, "score")
    assert found is not None and found["unit"] == BY_ROWS and found["rule"].startswith("quantile ")
    held_out = folder.held_out()
    assert held_out is not None
    values = [held_out.of_video(video).values("score") for video in held_out.videos]
    for stated, measured, *_ in found["points"]:
        above = 0
        for k, own in enumerate(values):
            others = np.concatenate([each for i, each in enumerate(values) if i != k])
            above += int((own > np.quantile(others, 1 - stated)).sum())
        # quantiles between rows may be taken in another way
        assert measured == pytest.approx(above / sum(map(len, values)), abs=4 / 1600)
    assert len(found["points"]) >= 4
    both = thresholds_from(folder, "score")
    assert both is not None and both[1].high.value == folder.threshold()


def test_there_is_none_without_held_out_rows_for_a_value_and_for_other_columns(
    tmp_path: Path,
) -> None:
    assert (
        trust_plot(write_score_folder(tmp_path / "no", {"a": rows([0, 1])}, None), "score") is None
    )
    folder = scored(tmp_path / "out")
    assert trust_plot(folder, "loud") is None
    run = folder.run()
    folder.write_run({**run, "events": {"value": 1.0}})
    assert trust_plot(folder, "score") is None


@pytest.mark.slow
def test_the_page_draws_it_behind_the_switch(tmp_path: Path) -> None:
    folder = scored(tmp_path / "out")
    index = write_review(folder.path, tmp_path / "page")
    text = (tmp_path / "page" / "data" / "page.js").read_text("utf-8")
    points = trust_plot(folder, "score")["points"]  # type: ignore[index]
    assert json.dumps(points[0][0]) in text
    with chromium() as browser:
        page = Opened(browser, index)
        tab = page.go()
        assert not tab.is_visible(".calibration")
        tab.check("#expert")
        assert tab.is_visible(".calibration svg")
        assert tab.locator(".calibration circle").count() == len([p for p in points if p[0] > 0])
        assert page.said == []
        page.close()
