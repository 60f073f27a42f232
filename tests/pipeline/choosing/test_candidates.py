"""What can be ranked: empty lists, numbers out of range, and strides that leave too little."""

from __future__ import annotations

from typing import Any

import pytest

from vadpipe.detectors.base import DetectorError
from vadpipe.pipeline.choosing.candidates import check_candidates, check_strides

FINE: dict[str, Any] = {
    "settings": {"block": 20},
    "grid": {"smooth": [2, 4]},
    "thresholds": [0.0, 1.0],
    "strides": [1],
    "windows": (1, 1),
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grid": {"smooth": []}}, "no list of values for smooth"),
        ({"grid": {"combine": "sum"}}, "no list of values for combine"),
        ({"grid": {"block": [10]}}, "block is in the grid and has a fixed value too"),
        ({"thresholds": []}, "thresholds are one or more"),
        ({"thresholds": [float("nan")]}, "thresholds are one or more"),
        ({"thresholds": [1.1]}, "thresholds are one or more"),
        ({"strides": []}, "strides are one or more"),
        ({"strides": [0]}, "strides are one or more"),
        ({"windows": (0, 3)}, "windows are 1 or more"),
    ],
)
def test_what_makes_no_candidates_is_refused(change: dict[str, Any], said: str) -> None:
    check_candidates(**FINE)
    with pytest.raises(DetectorError, match=said):
        check_candidates(**{**FINE, **change})


def test_a_stride_has_to_leave_rows_of_both() -> None:
    check_strides("a.x2", (0, 40), 20, [1, 3])
    with pytest.raises(DetectorError, match=r"a stride of 20 leaves 1 rows of a.x2 and 1 of the"):
        check_strides("a.x2", (0, 40), 20, [1, 20])
    with pytest.raises(DetectorError, match="0 of the rest"):  # no frame would be normal
        check_strides("a.x2", (0, 40), 40, [1])


def test_a_stretch_that_would_start_with_the_clip_is_refused() -> None:
    with pytest.raises(DetectorError, match="of 35 there is none before the middle"):
        check_strides("a.x2", (0, 40), 20, [5, 7])
    check_strides("a.x2", (0, 160), 80, [5, 7])
    with pytest.raises(DetectorError, match="of 6 there is none"):  # 54 is before the part
        check_strides("a.x2", (55, 71), 8, [2, 3])
