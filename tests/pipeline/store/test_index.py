"""A damaged part of an index is left out, named, and stops nothing."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.store.test_feature_store import CONTENT, make_store, write
from vadpipe.data_manifests.stored import DamagedFile
from vadpipe.extractors.clips import plan_spans
from vadpipe.pipeline.store import index as index_module
from vadpipe.pipeline.store.holdings import Holdings, whole_videos
from vadpipe.pipeline.store.index import ShardIndex, read_part


def changed(path: Path, **columns: Any) -> None:
    table = pq.read_table(path)
    for name, value in columns.items():
        at = table.column_names.index(name)
        values = value if isinstance(value, pa.Array) else pa.array([value] * len(table))
        table = table.set_column(at, name, values)
    pq.write_table(table, path)


@pytest.mark.parametrize(
    "columns",
    [
        {"content_id": "../../../x"},
        {"content_id": pa.array([None, None, None], pa.string())},
        {"checksum": ""},
        {"checksum": pa.array([None, "x", "x"])},
        {"frame_start": -1},
        {"frame_stop": 0},
        {"rows": "many"},
        {"rows": -1},
        {"size": float("nan")},
        {"damaged": 1 << 200},
    ],
    ids=lambda columns: ", ".join(
        f"{name} {value.to_pylist() if isinstance(value, pa.Array) else value}"
        for name, value in columns.items()
    ),
)
def test_values_that_no_shard_has(
    tmp_path: Path, columns: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(tmp_path)
    rows = [write(store, span, 50) for span in plan_spans(CONTENT, 50, 20)]
    store.add_index_part(rows)
    (path,) = store.shard_index.parts()
    if columns == {"damaged": 1 << 200}:
        path.write_bytes(b"PAR1 garbage PAR1")
    else:
        changed(path, **columns)
    with pytest.raises(DamagedFile, match=path.name):
        read_part(path)
    with caplog.at_level(logging.WARNING):
        assert len(store.index()) == 0
    assert "vadpipe cache repair" in caplog.text and str(path) in caplog.text
    assert whole_videos(store, [CONTENT]), "the shards are the truth"
    assert [line.partition(":")[0] for line in store.verify()] == ["damaged", *["not indexed"] * 3]
    held = Holdings(store, [CONTENT])
    assert held.whole(CONTENT)
    held.list_unlisted()
    assert len(store.index()) == 3


def test_parts_of_older_versions_lack_columns(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.add_index_part([write(store, span, 50) for span in plan_spans(CONTENT, 50, 50)])
    (path,) = store.shard_index.parts()
    pq.write_table(pq.read_table(path).drop_columns(["last", "axis_rows"]), path)
    assert read_part(path)["last"].to_pylist() == [None]
    pq.write_table(pq.read_table(path).drop_columns(["checksum"]), path)
    with pytest.raises(DamagedFile):
        read_part(path)


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ESTALE])
def test_a_part_that_cannot_be_read_now_is_not_taken_for_damaged(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To fold or shorten the index without it would unlist its shards for good."""
    store = make_store(tmp_path)
    index = ShardIndex(store.root / "index")
    for span in plan_spans(CONTENT, 64, 16):
        index.add([write(store, span, 64)])
    parts = index.parts()
    assert len(parts) == 4

    def failing(path: Path) -> pa.Table:
        if path == parts[1]:
            raise OSError(number, os.strerror(number), str(path))
        return real(path)

    real = index_module.read_parquet
    monkeypatch.setattr(index_module, "read_parquet", failing)
    for use in (index.table, lambda: index.fold(1), lambda: index.remove([CONTENT])):
        with pytest.raises(OSError, match=os.strerror(number)):
            use()
        assert index.parts() == parts
    monkeypatch.setattr(index_module, "read_parquet", real)
    index.fold(1)
    assert len(index.parts()) == 1 and index.table().num_rows == 4
