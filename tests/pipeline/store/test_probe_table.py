"""Rows of the probe are checked before an id in them becomes a path."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.chain import video
from vadpipe.data_manifests.stored import DamagedFile
from vadpipe.extractors.footage.video import KeyFrames
from vadpipe.pipeline.store.probe_table import (
    chosen_rate,
    load_probes,
    probe_parts,
    read_probes,
    save_probes,
)

KEYS = KeyFrames(*(np.arange(0, 8, 4) for _ in range(3)))
ROWS = [
    ("2|a|/drawn.mp4", replace(video(8), key_frames=KEYS, flags=("gaps",))),
    ("2|b|/other.mp4", replace(video(9, "f1-" + "cd" * 20), path="/other.mp4", stamp="1:2")),
]


@pytest.fixture
def part(tmp_path: Path) -> Path:
    save_probes(tmp_path, ROWS)
    (path,) = probe_parts(tmp_path)
    return path


def test_what_is_saved_is_read(tmp_path: Path, part: Path) -> None:
    assert {key: row.to_json() for key, row in load_probes(tmp_path).items()} == {
        (s, row.stamp): row.to_json() for s, row in ROWS
    }


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("content_id", "s1-../../../../../escape"),
        ("content_id", "/escape"),
        ("content_id", None),
        ("path", "/etc/passwd"),
        ("path", "/drawn.mp4\0"),
        ("signature", None),
        ("whole_id", "../escape"),
        ("kind", "features"),
        ("kind", 3),
        ("n_frames", -1),
        ("n_frames", 1 << 62),
        ("n_frames", "many"),
        ("decoded", None),
        ("fps", 0.0),
        ("fps", float("nan")),
        ("duration", float("inf")),
        ("rotation", 45),
        ("flags", None),
        ("flags", [None]),
        ("codec", None),
        ("key_index", [4, 0]),
        ("key_index", [0]),
        ("key_pts", None),
        ("key_dts", [0, None]),
    ],
)
def test_values_that_no_probe_finds(
    tmp_path: Path, part: Path, column: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    save_probes(tmp_path, [("2|c|/drawn.mp4", video(8))])
    table = pq.read_table(part)
    values = [value, *table[column].to_pylist()[1:]]
    at = table.column_names.index(column)
    try:
        changed = pa.array(values, table.schema.field(column).type)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        changed = pa.array([str(each) for each in values])
    pq.write_table(table.set_column(at, column, changed), part)
    with pytest.raises(DamagedFile, match=part.name):
        read_probes(part)
    with caplog.at_level(logging.WARNING):
        assert list(load_probes(tmp_path)) == [("2|c|/drawn.mp4", "")], "other parts stay"
    assert str(part) in caplog.text and "probed again" in caplog.text


@pytest.mark.parametrize(
    ("kind", "fps", "rate"), [("images", 10.0, 10.0), ("images", 25.0, None), ("video", 10.0, None)]
)
def test_the_rate_that_a_user_has_chosen(kind: Any, fps: float, rate: float | None) -> None:
    assert chosen_rate(replace(video(8), kind=kind, fps=fps)) == rate
