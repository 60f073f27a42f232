"""The threshold that is kept with a model: what is written is read, damage says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vadpipe.pipeline.scores.events import EventConfig
from vadpipe.pipeline.scores.stored_threshold import (
    Measured,
    StoredThreshold,
    StoredThresholdError,
)

FULL = StoredThreshold(
    rule=EventConfig(budget=2.5, release_quantile=0.9, merge_seconds=3.0),
    high=4.0,
    low=1.0,
    lines=("6 hours of footage",),
    warnings=("few videos",),
    unit="events a day",
    curve=(Measured(stated=1.0, found=1.5, least=0.2, most=4.0),),
    weights_sha256="ab",
    created="2026-11-29T10:00:00+00:00",
    command="vadpipe threshold",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "threshold.json"
    assert StoredThreshold.read(path) is None
    FULL.write(path)
    assert StoredThreshold.read(path) == FULL
    assert json.loads(path.read_text())["rule"]["budget"] == 2.5


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_says_what_to_do(tmp_path_factory: pytest.TempPathFactory, data) -> None:
    path = tmp_path_factory.mktemp("model") / "threshold.json"
    FULL.write(path)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + 1 :])
    try:
        StoredThreshold.read(path)
    except StoredThresholdError as error:
        assert "vadpipe threshold again" in str(error) and str(path) in str(error)


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"rule": {"budget": 1, "value": 2}, "high": 1, "low": 0}', '{"high": "x"}'],
)
def test_what_is_no_threshold_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "threshold.json"
    path.write_text(text)
    with pytest.raises(StoredThresholdError, match="run vadpipe threshold again"):
        StoredThreshold.read(path)
