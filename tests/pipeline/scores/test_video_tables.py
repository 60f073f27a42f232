"""Tables over all videos grow piece by piece and appear whole."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vadpipe.pipeline.scores.video_tables import growing

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


def test_a_table_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), growing(tmp_path / "t.parquet", SCHEMA, ".part-") as add:
        add(pa.table({"n": [1]}, schema=SCHEMA))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
