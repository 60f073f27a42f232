"""StoreRows: the rows that `read` returns, counted without opening files, in flat memory."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vadpipe.data_manifests.atomic import CannotWrite
from vadpipe.data_manifests.record import VideoRecord
from vadpipe.detectors.base import DetectorError
from vadpipe.extractors.base import ArraySpec, Rows
from vadpipe.extractors.clips import Span, plan_spans
from vadpipe.pipeline.store import sharded_array
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.feature_sets import list_stores
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.shard import ShardRow, VideoFacts
from vadpipe.pipeline.store.video_rows import StoreRows

PIXELS = ArraySpec("frames", "uint8", ("frame", "value"), (2,), role="pixels")
CROPS = ArraySpec("crops", "int64", ("object", "value"), (2,), role="object", ragged=True)
OLD = Path(__file__).resolve().parents[2] / "data" / "v0_1" / "cache"


def content(number: int) -> str:
    return f"s1-{number:040x}"


def make_store(root: Path, *specs: ArraySpec) -> FeatureStore:
    recipe = {"extractor": "toy", "version": 1, "arrays": [spec.to_json() for spec in specs]}
    store = FeatureStore(root, recipe)
    store.create()
    return store


def write(store: FeatureStore, span: Span, frames: int, *, ragged: bool = False) -> ShardRow:
    """One picture a frame, and (frame % 3) objects in each, with their frame and number."""
    at = np.arange(span.frame_start, frames if span.last else span.frame_stop)
    pictures = np.stack([at % 250, at // 250], axis=1).astype(np.uint8)
    rows, specs = {"frame": Rows(at, at + 1, {"frames": pictures})}, [PIXELS]
    if ragged:
        objects = np.array([(f, i) for f in at for i in range(f % 3)], np.int64).reshape(-1, 2)
        of = objects[:, 0].copy()
        rows["object"] = Rows(of, of + 1, {"crops": objects}, of)
        specs.append(CROPS)
    return store.write(
        span, rows, specs, VideoFacts(25.0, frames if span.last else None), {"vadpipe": "0"}
    )


def open_rows(
    store: FeatureStore, records: Sequence[VideoRecord], number: int = 0, *, labels: bool = False
) -> StoreRows:
    contents = [content(int(record.video_id.split(".")[0][1:])) for record in records]
    return StoreRows(store, store.array_specs()[number], records, contents, labels=labels)


def record(name: str, **more: Any) -> VideoRecord:
    return VideoRecord(video_id=name, path=f"{name}.mp4", split="train", **more)


def all_rows(rows: StoreRows, video: int) -> NDArray[Any]:
    out = np.empty((int(rows.counts[video]), *rows.shape), rows.dtype)
    rows.read_into(out, video, 0)
    return out


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the HDF5 files that are opened from now on."""
    names: list[str] = []
    real: Callable[..., Any] = h5py.File.__init__

    def noting(self: h5py.File, name: Any, *args: Any, **options: Any) -> None:
        if isinstance(name, str | Path):
            names.append(Path(name).name)
        real(self, name, *args, **options)

    monkeypatch.setattr(h5py.File, "__init__", noting)
    return names


@settings(max_examples=12, deadline=None)
@given(
    frames=st.lists(st.integers(1, 30), min_size=1, max_size=2),
    sizes=st.lists(st.integers(5, 40), min_size=1, max_size=2),
    keep=st.randoms(use_true_random=False),
)
def test_rows_are_those_that_read_returns(
    tmp_path_factory: pytest.TempPathFactory, frames: list[int], sizes: list[int], keep: Any
) -> None:
    """Whatever overlapping shards earlier span sizes left, listed in the index or not."""
    store = make_store(tmp_path_factory.mktemp("store"), PIXELS, CROPS)
    for video, n in enumerate(frames):
        for i, size in enumerate(sizes):
            for span in plan_spans(content(video), n, size):
                if i == len(sizes) - 1 or keep.random() < 0.5:
                    row = write(store, span, n, ragged=True)
                    if keep.random() < 0.7:
                        store.add_index_part([row])
    records = [record(f"v{video}") for video in range(len(frames))]
    for number, name in enumerate(["frames", "crops"]):
        rows = open_rows(store, records, number)
        for video in range(len(frames)):
            array = store.read(content(video)).arrays[name]
            assert rows.counts[video] == len(array)
            np.testing.assert_array_equal(all_rows(rows, video), array[:], strict=True)
            if len(array):
                start = keep.randrange(len(array))
                out = np.empty((keep.randint(0, len(array) - start), *rows.shape), rows.dtype)
                rows.read_into(out, video, start)
                np.testing.assert_array_equal(out, array[start : start + len(out)])


def test_listed_rows_are_counted_without_opening_a_file(tmp_path: Path, opened: list[str]) -> None:
    store = make_store(tmp_path, PIXELS, CROPS)
    for video in (0, 1):
        for span in plan_spans(content(video), 25, 10):
            store.add_index_part([write(store, span, 25, ragged=True)])
    opened.clear()
    records = [record("v0", label=0, scene="yard"), record("v1", label=1)]
    pixels, objects = (open_rows(store, records, number) for number in (0, 1))
    assert pixels.counts.tolist() == [25, 25] and objects.counts.tolist() == [24, 24]
    assert (pixels.role, pixels.shape, pixels.dtype) == ("pixels", (2,), np.uint8)
    assert (pixels.video_ids, pixels.scenes) == (["v0", "v1"], ["yard", None])
    assert not opened
    all_rows(pixels, 1)
    all_rows(pixels, 1)
    assert len(opened) == 3  # each shard once: it is mapped afterwards


def test_labels_are_hidden_unless_they_may_be_seen(tmp_path: Path) -> None:
    store = make_store(tmp_path, PIXELS)
    write(store, Span(content(0), 0, 5, True), 5)
    records = [record("v0", label=1)]
    assert open_rows(store, records).labels == [None]
    assert open_rows(store, records, labels=True).labels == [1]


@pytest.mark.parametrize("lost", ["axis_rows", "last"])
def test_what_an_older_index_does_not_say_is_looked_up_once(
    tmp_path: Path, opened: list[str], lost: str
) -> None:
    store = make_store(tmp_path, PIXELS, CROPS)
    spans = plan_spans(content(0), 25, 10)
    rows = [write(store, span, 25, ragged=True) for span in spans]
    store.add_index_part([replace(row, **{lost: None}) for row in rows])
    opened.clear()
    assert open_rows(store, [record("v0")], 1).counts.tolist() == [24]
    assert len(opened) == len(spans)
    assert open_rows(store, [record("v0")], 1).counts.tolist() == [24]
    assert len(opened) == len(spans)  # the index has learned it


def test_a_read_only_cache_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, PIXELS)
    write(store, Span(content(0), 0, 5, True), 5)

    def refuse(*_: Any) -> None:
        raise CannotWrite("read-only")

    monkeypatch.setattr(store.shard_index, "_add", refuse)
    assert open_rows(store, [record("v0")]).counts.tolist() == [5]


def test_parts_of_one_video_do_not_see_each_other(tmp_path: Path) -> None:
    store = make_store(tmp_path, PIXELS, CROPS)
    for span in plan_spans(content(0), 20, 7):
        store.add_index_part([write(store, span, 20, ragged=True)])
    records = [record("v0.a", part=(0.0, 0.45)), record("v0.b", part=(0.45, 1.0)), record("v0")]
    pixels, objects = (open_rows(store, records, number) for number in (0, 1))
    assert pixels.counts.tolist() == [9, 11, 20]
    assert all_rows(pixels, 0)[:, 0].tolist() == list(range(9))
    assert all_rows(pixels, 1)[:, 0].tolist() == list(range(9, 20))
    assert set(all_rows(objects, 0)[:, 0]) < set(range(9))
    assert set(all_rows(objects, 1)[:, 0]) < set(range(9, 20))
    with pytest.raises(IndexError):
        pixels.read_into(np.empty((2, 2), np.uint8), 0, 8)  # over the border of the part


def test_a_part_without_rows_is_an_error_unless_rows_are_ragged(tmp_path: Path) -> None:
    store = make_store(tmp_path, PIXELS, CROPS)
    store.add_index_part([write(store, Span(content(0), 0, 4, True), 4, ragged=True)])
    records = [record("v0", part=(0.0, 0.1))]
    with pytest.raises(DetectorError, match=r"v0: its part .* has no row of 'pixels'"):
        open_rows(store, records, 0)
    assert open_rows(store, records, 1).counts.tolist() == [0]


def test_all_videos_that_are_not_whole_are_named(tmp_path: Path) -> None:
    store = make_store(tmp_path, PIXELS)
    write(store, Span(content(0), 0, 5, True), 5)
    write(store, Span(content(1), 0, 5, False), 5)
    with pytest.raises(StoreError, match="of 2 videos: v1, v2; run vadpipe extract"):
        open_rows(store, [record("v0"), record("v1"), record("v2")])


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    store = make_store(tmp_path, PIXELS)
    path = store.shard_path(Span(content(0), 0, 5, True))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no shard")
    with pytest.raises(StoreError, match=f"{path.name} cannot be read"):
        open_rows(store, [record("v0")])


def test_a_cache_of_version_0_1_is_read_with_equal_rows(tmp_path: Path) -> None:
    shutil.copytree(OLD / "features", tmp_path / "features")
    stores = list_stores(tmp_path)
    assert len(stores) > 3
    for store in stores:
        contents = sorted(set(store.index()["content_id"].to_pylist()))
        records = [record(f"v{i}") for i in range(len(contents))]
        for spec in store.array_specs():
            rows = StoreRows(store, spec, records, contents, labels=False)
            for video, each in enumerate(contents):
                expected = store.read(each).arrays[spec["name"]][:]
                np.testing.assert_array_equal(all_rows(rows, video), expected, strict=True)


def test_memory_is_flat_in_the_length_of_thousands_of_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1,500 videos of 4,000 rows some hundred bytes each are kept, and the last maps."""
    monkeypatch.setattr(sharded_array, "MOST_OPEN", 50)
    sharded_array._open.clear()
    videos, frames = 1500, 4000
    store = make_store(tmp_path, PIXELS)
    first = write(store, Span(content(0), 0, frames, True), frames)
    shard = store.shard_path(Span(content(0), 0, frames, True))
    for video in range(1, videos):
        span = Span(content(video), 0, frames, True)
        if video % 25 == 0:  # these are read
            write(store, span, frames)
            continue
        store.shard_path(span).parent.mkdir(parents=True)
        os.link(shard, store.shard_path(span))
    store.add_index_part([replace(first, content_id=content(v)) for v in range(videos)])
    records = [record(f"v{video}") for video in range(videos)]
    open_rows(store, records[:1])  # loads libraries
    tracemalloc.start()
    rows = open_rows(store, records)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows.counts.sum() == videos * frames
    assert kept < 1000 * videos, f"{kept / videos:.0f} bytes a video"
    out = np.empty((3, 2), np.uint8)
    for video in range(0, videos, 25):
        rows.read_into(out, video, 7)
        assert out[:, 0].tolist() == [7, 8, 9]
    assert len(sharded_array._open) == 50


def test_the_index_keeps_the_rows_of_each_axis(tmp_path: Path) -> None:
    store = make_store(tmp_path, PIXELS, CROPS)
    row = write(store, Span(content(0), 0, 5, True), 5, ragged=True)
    assert row.axis_rows is not None and json.loads(row.axis_rows) == {"frame": 5, "object": 4}
    store.rebuild_index()
    (listed,) = store.index().to_pylist()
    assert ShardRow(**listed) == row
    plain = make_store(tmp_path, PIXELS)
    assert write(plain, Span(content(0), 0, 5, True), 5).axis_rows is None
