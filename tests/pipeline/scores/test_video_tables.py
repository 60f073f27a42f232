"""Tables over all videos grow piece by piece and appear whole."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.scores.video_tables import ColumnsError, growing

SCHEMA = pa.schema([("n", pa.int64())])


def test_pieces_become_row_groups_of_one_table(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with growing(path, SCHEMA, ".part-") as add:
        for n in range(3):
            add(pa.table({"n": [n, n]}, schema=SCHEMA))
        assert not path.exists()
        assert [p.name[:6] for p in tmp_path.iterdir()] == [".part-"]
    assert pq.read_table(path)["n"].to_pylist() == [0, 0, 1, 1, 2, 2]
    assert pq.ParquetFile(path).num_row_groups == 3
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_parts_have_the_columns_of_the_run_in_any_order(tmp_path: Path) -> None:
    folder = ScoreFolder(tmp_path)
    part = pa.table(
        {"near": [0.5], "video_id": ["v"], "frame_start": [0], "frame_stop": [8], "score": [1.0]}
    )
    with folder.tables("d", ["score", "near"]) as tables:
        tables.add_scores(part)
        for wrong in (part.drop_columns(["near"]), part.append_column("far", [[1.0]])):
            with pytest.raises(ColumnsError, match="declares score, near: delete their part"):
                tables.add_scores(wrong)
    written = pq.read_table(tmp_path / "scores.parquet")
    assert written.column_names == ["video_id", "frame_start", "frame_stop", "score", "near"]
    assert written.to_pylist() == part.select(written.column_names).to_pylist()


def test_a_table_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), growing(tmp_path / "t.parquet", SCHEMA, ".part-") as add:
        add(pa.table({"n": [1]}, schema=SCHEMA))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
