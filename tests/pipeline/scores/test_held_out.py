"""Held-out rows: what is written is read, what is none is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.held_out_rows import held_out_of
from tests.score_folders import rows
from vadpipe.pipeline.scores.held_out import FILE, HeldOut, HeldOutError

TWO = HeldOut.from_scores(["b", "a", "b"], [rows([1.0]), rows([2.0, 3.0]), rows([4.0], first=8)])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert HeldOut.read(tmp_path / FILE) is None
    TWO.write(tmp_path / FILE)
    read = HeldOut.read(tmp_path / FILE)
    assert read is not None and read.table.equals(TWO.table)
    assert (read.videos, read.columns) == (("a", "b"), ("score",))
    assert read.values("score").tolist() == [1.0, 2.0, 3.0, 4.0]
    assert read.of_video("b").table.to_pydict() == {
        "video_id": ["b", "b"],
        "frame_start": [0, 8],
        "frame_stop": [8, 16],
        "score": [1.0, 4.0],
    }
    assert read.of_video("a").values("score").tolist() == [2.0, 3.0]
    with pytest.raises(HeldOutError, match="no held-out rows of 'c'"):
        read.of_video("c")


def test_every_column_is_kept_in_any_order() -> None:
    one = rows([1.0], near=[5.0], far=[6.0])
    other = rows([2.0], far=[8.0], near=[7.0])
    both = HeldOut.from_scores(["a", "b"], [one, other])
    assert both.columns == ("score", "near", "far")
    assert both.values("near").tolist() == [5.0, 7.0]
    with pytest.raises(HeldOutError, match="no held-out column 'x'; there are: score, near, far"):
        both.values("x")
    with pytest.raises(HeldOutError, match="differ in their columns"):
        HeldOut.from_scores(["a", "b"], [one, rows([1.0])])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_id": None}, "lack video_id"),
        ({"frame_stop": None}, "lack frame_stop"),
        ({"score": None}, "lack score"),
        ({"video_id": ["a", None, "b", "b"]}, "nulls in video_id"),
        ({"score": pa.array([1, 2, 3, 4])}, "lack score"),
        ({"score": pa.array([1.0, 2.0, np.nan, 4.0])}, "'score' is not finite"),
        ({"score": pa.array([1.0, 2.0, None, 4.0])}, "'score' is not finite"),
    ],
)
def test_what_are_no_held_out_rows_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    values: dict[str, Any] = TWO.table.to_pydict() | change
    table = pa.table({name: column for name, column in values.items() if column is not None})
    with pytest.raises(HeldOutError, match=message):
        HeldOut(table)
    pq.write_table(table, tmp_path / FILE)
    with pytest.raises(HeldOutError, match=rf"{FILE}: .*{message}.*run score again"):
        HeldOut.read(tmp_path / FILE)


def test_damaged_files_and_no_rows_say_so(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(HeldOutError, match=r"is damaged.*run score again"):
        HeldOut.read(tmp_path / FILE)
    for empty in (lambda: HeldOut(TWO.table.slice(0, 0)), lambda: HeldOut.from_scores([], [])):
        with pytest.raises(HeldOutError, match="no held-out rows"):
            empty()


@pytest.mark.parametrize("frames", [(0, 1 << 62), (-8, 0), (8, 4)])
def test_frames_that_no_video_has_are_refused(tmp_path: Path, frames: tuple[int, int]) -> None:
    columns = {"frame_start": frames[0], "frame_stop": frames[1], "score": 1.0, "video_id": "v"}
    pq.write_table(pa.table({name: [value] for name, value in columns.items()}), tmp_path / FILE)
    with pytest.raises(HeldOutError, match="frames that no video has: train again"):
        HeldOut.read(tmp_path / FILE, cure="train again")


def test_scenes_are_noted_and_survive_the_file(tmp_path: Path) -> None:
    plain = held_out_of({"a": [1.0, 2.0], "b": [3.0], "c": [4.0]})
    assert plain.scenes == {}
    noted = plain.with_scenes({"a": "gate", "b": "gate", "c": None})
    noted.write(tmp_path / "rows.parquet")
    read = HeldOut.read(tmp_path / "rows.parquet")
    assert read is not None and read.scenes == {"gate": ["a", "b"]} and read.fps == plain.fps
    part = read.of_videos(["a", "c"])
    assert part.videos == ("a", "c") and part.values("score").tolist() == [1.0, 2.0, 4.0]
    assert part.scenes == {"gate": ["a"]} and part.fps == plain.fps


@pytest.mark.parametrize("noted", [b"[1]", b"{", b"7"])
def test_damaged_scenes_say_what_to_do(tmp_path: Path, noted: bytes) -> None:
    rows = held_out_of({"a": [1.0]})
    damaged = rows.table.replace_schema_metadata({b"scenes": noted})
    HeldOut(damaged).write(tmp_path / "rows.parquet")
    with pytest.raises(HeldOutError, match=r"scenes of held-out rows are damaged.*run score again"):
        HeldOut.read(tmp_path / "rows.parquet")
