"""FeatureStore: whole shards or none, overlapping spans, verification, index."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vadpipe.extractors.base import ArraySpec
from vadpipe.extractors.clips import Span, plan_spans
from vadpipe.pipeline import store as store_module
from vadpipe.pipeline.store import FeatureStore, StoreError, VideoFacts, list_stores

CONTENT = "s1-" + "ab" * 20
SPEC = ArraySpec("x", "float16", ("snippet", "feature"), (3,), role="snippet")
RECIPE = {"extractor": "toy", "version": 1, "config": {"a": 1}, "arrays": [SPEC.to_json()]}
PROVENANCE = {"vadpipe": "0", "torch": "0", "ffmpeg": "0", "device": "cpu"}


def make_store(root: Path, **changes: Any) -> FeatureStore:
    store = FeatureStore(root, {**RECIPE, **changes})
    store.create()
    return store


def write(store: FeatureStore, span: Span, n_frames: int, stride: int = 4) -> Any:
    """Rows whose values are their own first frame."""
    stop = n_frames if span.last else span.frame_stop
    first = -(-span.frame_start // stride) * stride
    starts = np.arange(first, stop, stride)
    x = np.repeat(starts[:, None], 3, axis=1).astype(np.float16)
    facts = VideoFacts(25.0, n_frames if span.last else None, ("rotated",))
    stops = np.minimum(starts + stride, n_frames)
    return store.write(span, {"x": x}, starts, stops, [SPEC], facts, PROVENANCE)


def test_write_and_read_back(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for span in plan_spans(CONTENT, 50, 20):
        assert not store.has(span)
        write(store, span, 50)
        assert store.has(span)
    features = store.read(CONTENT)
    assert features.frame_start.tolist() == list(range(0, 50, 4))
    assert features.frame_stop.tolist() == [*range(4, 50, 4), 50]
    x = features.arrays["x"]
    assert x.shape == (13, 3) and x.dtype == np.float16
    assert x[3:7][:, 0].tolist() == [12, 16, 20, 24]  # over a border of shards
    assert x[5:5].shape == (0, 3)
    assert (features.n_frames, features.fps, features.flags) == (50, 25.0, ("rotated",))
    assert store.complete(CONTENT)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 60),
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    keep=st.randoms(use_true_random=False),
)
def test_shards_of_several_span_sizes_give_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, n: int, sizes: list[int], keep: Any
) -> None:
    """Whatever earlier runs with other span sizes left behind, reading gives every row once."""
    store = make_store(tmp_path_factory.mktemp("store"))
    for size in sizes[:-1]:
        for span in plan_spans(CONTENT, n, size):
            if keep.random() < 0.5 and not store.has(span):
                write(store, span, n)
    for span in plan_spans(CONTENT, n, sizes[-1]):
        if not store.has(span):
            write(store, span, n)
    features = store.read(CONTENT)
    assert features.frame_start.tolist() == list(range(0, n, 4))
    assert features.arrays["x"][:][:, 0].tolist() == list(range(0, n, 4))


def test_an_unfinished_video_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with pytest.raises(StoreError, match="run vadpipe extract"):
        store.read(CONTENT)
    write(store, plan_spans(CONTENT, 50, 20)[0], 50)
    assert not store.complete(CONTENT)
    with pytest.raises(StoreError, match="frames up to 20"):
        store.read(CONTENT)


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.zeros((2, 4), np.float16), "promised float16"),
        (np.zeros((2, 3), np.float32), "promised float16"),
        (np.zeros((1, 3), np.float16), "promised float16"),
    ],
)
def test_arrays_that_break_their_promise_are_refused(
    tmp_path: Path, x: np.ndarray[Any, Any], match: str
) -> None:
    store = make_store(tmp_path)
    span = Span(CONTENT, 0, 8, True)
    with pytest.raises(StoreError, match=match):
        store.write(
            span, {"x": x}, np.arange(2), np.arange(2) + 1, [SPEC], VideoFacts(1.0, 8), PROVENANCE
        )
    assert not store.has(span)


@pytest.mark.parametrize("moment", ["fsync", "replace", "_verify_shard"])
def test_a_crash_while_writing_leaves_no_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store = make_store(tmp_path)
    span = Span(CONTENT, 0, 8, True)

    def crash(*_: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        target = {"fsync": os, "replace": Path, "_verify_shard": store_module}[moment]
        patch.setattr(target, moment, crash)
        with pytest.raises(OSError, match="disk full"):
            write(store, span, 8)
    assert not store.has(span)
    assert not list(store.video_folder(CONTENT).iterdir()), "temporary files are left"
    write(store, span, 8)
    store.rebuild_index()
    assert store.verify() == []


def test_stale_temporary_files_go_and_young_ones_stay(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    folder = store.video_folder(CONTENT)
    folder.mkdir(parents=True)
    old, young = folder / ".a.h5.host-1-x.tmp", folder / ".b.h5.host-2-y.tmp"
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    write(store, Span(CONTENT, 0, 8, True), 8)
    assert not old.exists() and young.exists()


def test_verify_finds_what_is_wrong(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    rows = [write(store, span, 50) for span in plan_spans(CONTENT, 50, 20)]
    store.add_index_part(rows[:2])
    first, second, third = store.scan()
    assert [p for p in store.verify() if "not indexed" in p and str(third) in p]
    assert store.rebuild_index() == 3
    assert store.verify() == []
    with h5py.File(first, "r+") as file:
        file["x"][0, 0] = 7
    second.write_bytes(second.read_bytes()[:100])
    problems = store.verify()
    assert len(problems) == 2 and all(p.startswith("broken") for p in problems)


def test_verify_reports_mixed_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path)
    spans = plan_spans(CONTENT, 50, 30)
    write(store, spans[0], 50)
    monkeypatch.setitem(PROVENANCE, "torch", "1")
    write(store, spans[1], 50)
    store.rebuild_index()
    assert store.verify() == ["mixed: shards were made with several versions of torch: 0, 1"]


def test_links_and_external_data_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    write(store, Span(CONTENT, 0, 8, True), 8)
    (path,) = store.scan()
    with h5py.File(path, "r+") as file:
        del file["x"]
        file["x"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(StoreError, match="no data set"):
        store.read(CONTENT)
    with h5py.File(path, "r+") as file:
        del file["x"]
        file.create_dataset("x", (2, 3), "f2", external=[(str(tmp_path / "raw"), 0, 12)])
    with pytest.raises(StoreError, match="not a plain data set"):
        store.read(CONTENT)


def test_tables_lie_beside_the_shard_and_are_checked(tmp_path: Path) -> None:
    spec = ArraySpec("boxes", "table", ("object",), (), role="object")
    store = make_store(tmp_path, arrays=[SPEC.to_json(), spec.to_json()])
    for span in plan_spans(CONTENT, 12, 6):
        frames = list(range(span.frame_start, span.frame_stop))
        table = pa.table({"frame_start": frames, "frame_stop": [f + 1 for f in frames]})
        x = np.zeros((len(frames), 3), np.float16)
        facts = VideoFacts(25.0, 12 if span.last else None)
        starts = np.array(frames)
        arrays = {"x": x, "boxes": table}
        store.write(span, arrays, starts, starts + 1, [SPEC, spec], facts, PROVENANCE)
    boxes = store.read(CONTENT).arrays["boxes"]
    assert boxes["frame_start"].to_pylist() == list(range(12))
    store.rebuild_index()
    assert store.verify() == []
    next(store.video_folder(CONTENT).glob("*.boxes.parquet")).write_bytes(b"other")
    assert len(store.verify()) == 1


def test_a_spec_that_was_edited_is_noticed(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    assert [s.name for s in list_stores(tmp_path)] == [store.name]
    path = store.root / "spec.json"
    path.write_text(path.read_text().replace('"a": 1', '"a": 2'))
    with pytest.raises(StoreError, match="was changed"):
        FeatureStore.open(store.root)
    with pytest.raises(StoreError, match=r"config\.a: 1 != 2"):
        store.create()


def test_same_features_twice_are_equal_byte_by_byte(tmp_path: Path) -> None:
    span = Span(CONTENT, 0, 8, True)
    rows = [write(make_store(tmp_path / name), span, 8) for name in "ab"]
    assert rows[0].checksum == rows[1].checksum
