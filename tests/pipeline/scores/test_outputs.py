"""What a detector returns has to be what it declares."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.score_folders import rows
from vadpipe.pipeline.scores.outputs import OutputError, checked_columns, checked_scores
from vadpipe.pipeline.scores.regions import REGION_SCHEMA, RegionError

ONE = replace(
    rows([1.0, 2.0], near=[3.0, 4.0]),
    maps={"m": np.zeros((2, 1, 1), np.float32)},
    regions=REGION_SCHEMA.empty_table().select(["score", "frame", "x0", "y0", "x1", "y1"]),
)


def declares(**changes: Any) -> Any:
    declared = {"name": "d", "columns": ("near", "score"), "maps": ("m", "n"), "regions": True}
    return SimpleNamespace(**declared | changes)


def test_declared_columns_come_in_their_order_and_regions_in_their_schema() -> None:
    checked = checked_scores(declares(), ONE)
    assert list(checked.columns) == ["near", "score"]
    assert checked.regions is not None and checked.regions.schema.equals(REGION_SCHEMA)
    assert checked.maps == ONE.maps


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"columns": ("score",)}, "columns score, near; it declares: score"),
        ({"columns": ("score", "near", "far")}, "declares: score, near, far"),
        ({"maps": ("n",)}, "does not declare: m; it declares: n"),
        ({"maps": ()}, "it declares: none"),
        ({"regions": False}, "returned regions that it does not declare"),
    ],
)
def test_a_mismatch_is_an_error(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(OutputError, match=message):
        checked_scores(declares(**declared), ONE)


def test_declared_regions_that_are_missing_or_wrong_are_errors() -> None:
    with pytest.raises(OutputError, match="declares regions, but returned none"):
        checked_scores(declares(), replace(ONE, regions=None))
    with pytest.raises(RegionError, match="have to have the columns"):
        checked_scores(declares(), replace(ONE, regions=pa.table({"frame": [1]})))


def test_held_out_scores_are_checked_for_columns_only() -> None:
    bare = replace(ONE, maps={}, regions=None)
    assert list(checked_columns(declares(), bare).columns) == ["near", "score"]
    with pytest.raises(OutputError, match="it declares: score"):
        checked_columns(declares(columns=("score",)), bare)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_start": np.array([16, 0])}, "not in order of time"),
        ({"frame_stop": np.array([0, 32])}, "not in order of time"),
        ({"frame_start": np.array([-1, 16])}, "not in order of time"),
        ({"frame_start": np.array([0.0, 16.0])}, "not in order of time"),
        ({"regions": {"frame": [1]}}, "regions as dict; they have to be a pa.Table"),
    ],
)
def test_rows_and_regions_of_another_kind_are_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OutputError, match=message):
        checked_scores(declares(), replace(ONE, **changes))


def test_something_else_than_scores_is_an_error() -> None:
    with pytest.raises(OutputError, match="has to return Scores; it returned ndarray"):
        checked_scores(declares(), np.zeros(2))  # type: ignore[arg-type]


def test_a_region_after_the_end_of_its_video_is_an_error() -> None:
    box = {"frame": [40], "x0": [0.0], "y0": [0.0], "x1": [1.0], "y1": [1.0], "score": [1.0]}
    scores = replace(ONE, regions=pa.table(box))
    assert checked_scores(declares(), scores, n_frames=41).regions is not None
    with pytest.raises(OutputError, match="region of frame 40; the video has 40 frames"):
        checked_scores(declares(), scores, n_frames=40)
