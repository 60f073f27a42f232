"""Arrays of a stored model: their type and axes, and what a detector has after it took them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from vadpipe.detectors.base import DetectorError, State
from vadpipe.detectors.state import check_state, stored_array

GOOD: State = {"a": np.ones((4, 2), np.float32), "n": np.array([3], np.int64)}


def test_what_fits_is_returned() -> None:
    assert stored_array(GOOD, "a", ("float64", "float32"), (None, 2)) is GOOD["a"]
    check_state(GOOD, {name: values.copy() for name, values in GOOD.items()})


@pytest.mark.parametrize(
    ("name", "dtypes", "shape", "message"),
    [
        ("b", "float32", (None, 2), "lacks 'b'"),
        ("a", "float64", (None, 2), r"'a' is float32 \(4, 2\), not float64 \(n, 2\)"),
        ("a", "float32", (None, 3), r"not float32 \(n, 3\)"),
        ("a", "float32", (None,), r"not float32 \(n\)"),
        ("n", ("int32", "uint8"), (1,), r"not int32 or uint8 \(1\)"),
    ],
)
def test_what_does_not_is_named(name: str, dtypes: Any, shape: Any, message: str) -> None:
    with pytest.raises(DetectorError, match=message):
        stored_array(GOOD, name, dtypes, shape)


def test_an_empty_axis_is_none() -> None:
    with pytest.raises(DetectorError, match="not float32"):
        stored_array({"a": np.ones((0, 2), np.float32)}, "a", "float32", (None, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": np.array([3], np.uint8)}, "'n' is uint8"),
        ({"a": np.ones((2, 4), np.float32)}, r"'a' is float32 \(2, 4\)"),
        ({"a": np.full((4, 2), np.nan, np.float32)}, "'a' has numbers that are not finite"),
        ({"b": np.ones(1)}, "arrays that this detector does not: b"),
    ],
)
def test_what_was_stored_is_what_the_detector_has(changes: State, message: str) -> None:
    with pytest.raises(DetectorError, match=message):
        check_state({**GOOD, **changes}, GOOD)
    with pytest.raises(DetectorError, match="lacks 'n'"):
        check_state({"a": GOOD["a"]}, GOOD)


def test_models_without_a_network_take_no_torch() -> None:
    """Importing it takes longer than training knn."""
    modules = "sys, vadpipe.pipeline.train, vadpipe.pipeline.score"
    code = f"import {modules}; print('torch' in sys.modules)"
    line = [sys.executable, "-P", "-c", code]
    assert subprocess.run(line, check=True, capture_output=True, text=True).stdout == "False\n"
