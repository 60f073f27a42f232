"""Reasons in words: of boxes, of the detector, and of folders of older versions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from tests.score_folders import rows, write_score_folder
from vadpipe.detectors.plain_words import USUAL
from vadpipe.pipeline.scores.plain_words import add_reasons, general_words
from vadpipe.pipeline.scores.regions import RegionError


@pytest.mark.parametrize(
    "run", [{}, {"model": None}, {"model": {"detector": "x"}}, {"model": {"words": 3}}]
)
def test_a_run_that_does_not_say_what_its_scores_mean_has_general_words(run: dict) -> None:
    assert general_words(run) == USUAL
    assert general_words({"model": {"words": "something moves fast"}}) == "something moves fast"


def test_rows_without_a_reason_get_that_of_their_boxes(tmp_path: Path) -> None:
    corners = {
        name: [at] for name, at in zip(("x0", "y0", "x1", "y1"), (1.0, 2.0, 3.0, 4.0), strict=True)
    }
    box = pa.table(
        {"frame": [30], **corners, "score": [1.0], "explain": ["fast"], "words": ["a car is fast"]}
    )
    odd = rows([0, 0, 0, 1, 1, 1, 0, 0])
    folder = write_score_folder(tmp_path / "out", {"a": replace(odd, regions=box), "b": odd}, None)

    def row(video: str, start: int, **known: str | None) -> dict:
        return {"video_id": video, "frame_start": start, "frame_stop": start + 20, **known}

    found = [row("a", 20), row("a", 40), row("b", 20), row("a", 20, explain=None)]
    assert add_reasons(folder, found) == {}
    said = [(each["explain"], each.get("words")) for each in found]
    assert said[0] == ("frame 30, box 1, 2 to 3, 4: fast", "a car is fast")
    assert said[1:] == [(None, None)] * 3, "no box there, no boxes, and known already"
    (path,) = (folder.path / "regions").rglob("a.parquet")
    path.write_bytes(b"damaged")
    broken = [row("a", 20), row("b", 20)]
    damaged = add_reasons(folder, broken)
    assert [*damaged] == ["a"] and isinstance(damaged["a"], RegionError), "the caller decides"
    assert (broken[0]["explain"], broken[0]["words"]) == (None, None)
