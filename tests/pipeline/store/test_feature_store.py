"""FeatureStore: whole shards or none, overlapping spans, verification, index, full disks."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vadpipe.data_manifests.atomic import CannotWrite
from vadpipe.extractors.base import ArraySpec, Rows
from vadpipe.extractors.clips import Span, plan_spans
from vadpipe.pipeline.store import feature_store as store_module
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.feature_sets import (
    chosen_stores,
    delete_set,
    list_stores,
    unreadable_sets,
)
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.holdings import Holdings, whole_videos
from vadpipe.pipeline.store.index import ShardIndex
from vadpipe.pipeline.store.shard import (
    ShardRow,
    VideoFacts,
    frames_of,
    row_of,
    shard_name,
    verify_shard,
)

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
    return store.write(span, {"snippet": Rows(starts, stops, {"x": x})}, [SPEC], facts, PROVENANCE)


def has(store: FeatureStore, span: Span) -> bool:
    return not Holdings(store, [span.content_id]).missing(span.content_id, [span])


def test_write_and_read_back(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for span in plan_spans(CONTENT, 50, 20):
        assert not has(store, span)
        write(store, span, 50)
        assert has(store, span)
    features = store.read(CONTENT)
    assert features.frame_start.tolist() == list(range(0, 50, 4))
    assert features.frame_stop.tolist() == [*range(4, 50, 4), 50]
    x = features.arrays["x"]
    assert x.shape == (13, 3) and x.dtype == np.float16
    assert x[3:7][:, 0].tolist() == [12, 16, 20, 24]  # over a border of shards
    assert x[5:5].shape == (0, 3)
    assert (features.n_frames, features.fps, features.flags) == (50, 25.0, ("rotated",))
    assert whole_videos(store, [CONTENT])


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 60),
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    keep=st.randoms(use_true_random=False),
)
def test_shards_of_several_span_sizes_give_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, n: int, sizes: list[int], keep: Any
) -> None:
    """Whatever earlier runs with other span sizes left, reading returns every row once."""
    store = make_store(tmp_path_factory.mktemp("store"))
    for size in sizes[:-1]:
        for span in plan_spans(CONTENT, n, size):
            if keep.random() < 0.5 and not has(store, span):
                write(store, span, n)
    for span in plan_spans(CONTENT, n, sizes[-1]):
        if not has(store, span):
            write(store, span, n)
    features = store.read(CONTENT)
    assert features.frame_start.tolist() == list(range(0, n, 4))
    assert features.arrays["x"][:][:, 0].tolist() == list(range(0, n, 4))


def test_an_unfinished_video_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with pytest.raises(StoreError, match="run vadpipe extract"):
        store.read(CONTENT)
    write(store, plan_spans(CONTENT, 50, 20)[0], 50)
    assert not whole_videos(store, [CONTENT])
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
            span,
            {"snippet": Rows(np.arange(2), np.arange(2) + 1, {"x": x})},
            [SPEC],
            VideoFacts(1.0, 8),
            PROVENANCE,
        )
    assert not has(store, span)


@pytest.mark.parametrize("moment", ["fsync", "replace", "verify_shard"])
def test_a_crash_while_writing_leaves_no_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store = make_store(tmp_path)
    span = Span(CONTENT, 0, 8, True)

    def crash(*_: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        target = {"fsync": os, "replace": Path, "verify_shard": store_module}[moment]
        patch.setattr(target, moment, crash)
        with pytest.raises(OSError, match="disk full"):
            write(store, span, 8)
    assert not has(store, span)
    assert not list(store.video_folder(CONTENT).iterdir()), "temporary files are left"
    write(store, span, 8)
    store.rebuild_index()
    assert store.verify() == []


def test_stale_temporary_files_go_and_young_ones_stay(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    folder = store.video_folder(CONTENT)
    folder.mkdir(parents=True)
    old, young = folder / ".a.h5.host-1-0123abcd.tmp", folder / ".b.h5.host-2-0123abcd.tmp"
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
        file["snippet/x"][0, 0] = 7
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
        del file["snippet/x"]
        file["snippet/x"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(StoreError, match="no data set"):
        store.read(CONTENT)
    with h5py.File(path, "r+") as file:
        del file["snippet/x"]
        file.create_dataset("snippet/x", (2, 3), "f2", external=[(str(tmp_path / "raw"), 0, 12)])
    with pytest.raises(StoreError, match="not a plain data set"):
        store.read(CONTENT)


def test_a_group_that_is_a_link_elsewhere_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    write(store, Span(CONTENT, 0, 8, True), 8)
    (path,) = store.scan()
    other = tmp_path / "other.h5"
    other.write_bytes(path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["snippet"]
        file["snippet"] = h5py.ExternalLink(str(other), "/snippet")
    with pytest.raises(StoreError, match="no data set"):
        store.read(CONTENT)
    with pytest.raises(StoreError, match="not a plain group"):
        verify_shard(path)
    with h5py.File(path, "r+") as file:
        del file["snippet"]
        file["away"] = h5py.SoftLink("/snippet")
    assert len(store.verify()) == 1


BOX = ArraySpec("boxes", "float32", ("object", "side"), (4,), role="object", ragged=True)


def write_objects(store: FeatureStore, span: Span, n_frames: int) -> None:
    """Frames of 0, 1, 2, 0, ... objects, and a row of the other axis every four frames."""
    frames = np.arange(span.frame_start, span.frame_stop)
    counts = frames % 3
    of = np.repeat(frames, counts)
    boxes = np.repeat(of[:, None], 4, axis=1).astype(np.float32)
    starts = frames[frames % 4 == 0]
    x = np.repeat(starts[:, None], 3, axis=1).astype(np.float16)
    rows = {
        "snippet": Rows(starts, np.minimum(starts + 4, n_frames), {"x": x}),
        # objects are seen up to two frames after their clip began
        "object": Rows(of + 2, of + 3, {"boxes": boxes}, clip_start=of),
    }
    facts = VideoFacts(25.0, n_frames if span.last else None)
    store.write(span, rows, [SPEC, BOX], facts, PROVENANCE)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 40), sizes=st.lists(st.integers(1, 45), min_size=1, max_size=3))
def test_axes_have_rows_of_their_own(
    tmp_path_factory: pytest.TempPathFactory, n: int, sizes: list[int]
) -> None:
    """Any number of rows a clip, over any spans: each comes back once, in order."""
    store = make_store(tmp_path_factory.mktemp("store"), arrays=[SPEC.to_json(), BOX.to_json()])
    for size in sizes:
        for span in plan_spans(CONTENT, n, size):
            if not store.shard_path(span).is_file():
                write_objects(store, span, n)
    features = store.read(CONTENT)
    frames = np.arange(n)
    of = np.repeat(frames, frames % 3)
    assert features.times["object"].frame_start.tolist() == (of + 2).tolist()
    assert features.times["snippet"].frame_start.tolist() == list(range(0, n, 4))
    assert features.arrays["boxes"].shape == (len(of), 4)
    assert features.arrays["boxes"][:][:, 0].tolist() == of.tolist()
    assert features.arrays["x"][:][:, 0].tolist() == list(range(0, n, 4))
    store.rebuild_index()
    assert store.verify() == []


def test_a_shard_of_one_axis_has_the_checksum_of_format_1(tmp_path: Path) -> None:
    """Models that were trained on imported features have it in their keys."""
    row = write(make_store(tmp_path), Span(CONTENT, 0, 8, True), 8)
    digest = hashlib.sha256()
    x = np.array([[0] * 3, [4] * 3], np.float16)
    times = {"frame_start": np.array([0, 4]), "frame_stop": np.array([4, 8])}
    for name, values in sorted({"x": x, **times}.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape};".encode() + values.tobytes())
    assert row.checksum == digest.hexdigest()


def test_a_spec_that_was_edited_is_noticed(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    assert [s.name for s in list_stores(tmp_path)] == [store.name]
    path = store.root / "spec.json"
    path.write_text(path.read_text().replace('"a": 1', '"a": 2'))
    with pytest.raises(StoreError, match="was changed"):
        FeatureStore.open(store.root)
    assert list_stores(tmp_path) == []
    store.create()
    assert [s.name for s in list_stores(tmp_path)] == [store.name], "it was written again"


@pytest.mark.parametrize(
    "text",
    ["{", "[1, 2]", "{}", '{"extractor": "toy"}', '{"extractor": "../../x", "arrays": []}', "NaN"],
)
def test_a_damaged_spec_stops_no_other_set(tmp_path: Path, text: str) -> None:
    good, bad = make_store(tmp_path), FeatureStore(tmp_path, {"extractor": "bad", "arrays": []})
    bad.create()
    (bad.root / "spec.json").write_text(text)
    assert [s.name for s in list_stores(tmp_path)] == [good.name]
    assert list(unreadable_sets(tmp_path)) == [bad.name]
    with pytest.raises(StoreError, match=r"spec\.json"):
        chosen_stores(tmp_path, [bad.name])
    assert delete_set(tmp_path, bad.name) == bad.root and not bad.root.exists()


def test_a_recipe_leads_nowhere_else(tmp_path: Path) -> None:
    for extractor in ("../../x", "/x", "", ".hidden", "a/b", 3, None, "a\0"):
        with pytest.raises(StoreError, match="is no name of an extractor"):
            FeatureStore(tmp_path, {"extractor": extractor, "arrays": []})
    with pytest.raises(StoreError, match="cannot be a key"):
        FeatureStore(tmp_path, {"extractor": "x", "config": {"a": float("nan")}})


@pytest.mark.parametrize("content", ["../x", "s1-../../../../x", "", ".", "a/b", "/x", "a\0"])
def test_a_content_id_leads_nowhere_else(tmp_path: Path, content: str) -> None:
    store = make_store(tmp_path)
    with pytest.raises(StoreError, match="is no content id"):
        write(store, Span(content, 0, 8, True), 8)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["spec.json"]


def test_same_features_twice_are_equal_byte_by_byte(tmp_path: Path) -> None:
    span = Span(CONTENT, 0, 8, True)
    rows = [write(make_store(tmp_path / name), span, 8) for name in "ab"]
    assert rows[0].checksum == rows[1].checksum


# --------------------------------------------------------------------------------------- index


def rows_of(content: str, *spans: tuple[int, int], rows: int = 3) -> list[ShardRow]:
    return [ShardRow(content, a, b, rows, 1000, f"{a:x}", b == 50) for a, b in spans]


def listed(store: FeatureStore, contents: Any = None) -> list[ShardRow]:
    return [ShardRow(**row) for row in store.index(contents).to_pylist()]


def test_the_index_of_some_videos(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    rows = [row for name in "abc" for row in rows_of(name, (0, 20), (20, 50))]
    for i in range(0, len(rows), 2):
        store.add_index_part(rows[i : i + 2][::-1])
    store.add_index_part([])
    assert len(list((store.root / "index").iterdir())) == 3
    assert listed(store) == rows, "by video and time, whatever their order on disk"
    for contents in (["c", "a"], {"a", "c"}, {"a": 1, "c": 2}.keys(), ("a", "c", "nobody")):
        assert listed(store, contents) == rows[:2] + rows[4:]
    for nobody in ([], ["x"]):
        assert listed(store, nobody) == []
        assert store.index(nobody).schema == store.index().schema


def test_a_store_without_an_index_has_an_empty_one(tmp_path: Path) -> None:
    assert listed(make_store(tmp_path)) == []


def test_a_shard_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for _ in range(3):
        store.add_index_part(rows_of("a", (0, 20), (0, 20), (20, 50)))
    assert listed(store) == rows_of("a", (0, 20), (20, 50))


def test_parts_of_older_versions_are_read(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.add_index_part(rows_of("a", (0, 50)))
    (part,) = (store.root / "index").iterdir()
    pq.write_table(pq.read_table(part).drop_columns(["last"]), part)
    (row,) = listed(store)
    assert row == ShardRow("a", 0, 50, 3, 1000, "0", None)
    store.add_index_part(rows_of("b", (0, 50)))
    assert [row.last for row in listed(store)] == [None, True]


def test_folding_keeps_all_rows(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for start in range(0, 100, 10):
        store.add_index_part(rows_of("a", (start, start + 10)))
    before = listed(store)
    folder = store.root / "index"
    store.fold_index(most=10)
    assert len(list(folder.iterdir())) == 10, "ten are not too many"
    store.fold_index(most=9)
    assert len(list(folder.iterdir())) == 1 and listed(store) == before
    assert len(before) == 10


def test_many_runs_fold_and_add_at_once(tmp_path: Path) -> None:
    """A reader may see too little meanwhile, but nothing is ever lost."""
    stores = [make_store(tmp_path) for _ in range(8)]

    def work(number: int) -> None:
        for i in range(15):
            stores[number].add_index_part(rows_of(f"{number}", (i, i + 1)))
            stores[number].fold_index(most=2)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    found = {(row.content_id, row.frame_start) for row in listed(stores[0])}
    assert found == {(f"{n}", i) for n in range(8) for i in range(15)}


def test_rebuilding_leaves_out_broken_shards(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    rows = [write(store, span, 50) for span in plan_spans(CONTENT, 50, 20)]
    store.add_index_part(rows_of("gone", (0, 50)))
    first, second, third = store.scan()
    assert (
        [row_of(path) for path in (first, second, third)]
        == rows
        == sorted(rows, key=lambda row: row.frame_start)
    )
    second.write_bytes(b"")
    with h5py.File(third, "r+") as file:
        del file.attrs["seal"]
    assert store.rebuild_index() == 1
    assert listed(store) == rows[:1]


def test_rebuilding_in_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_PART_ROWS", 2)
    store = make_store(tmp_path)
    rows = [write(store, span, 50) for span in plan_spans(CONTENT, 50, 10)]
    for _ in range(2):
        assert store.rebuild_index() == 5
        assert listed(store) == rows
        assert len(list((store.root / "index").iterdir())) == 3
    assert store.verify() == []


def test_verify_names_what_is_gone_and_what_is_not_listed(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    rows = [write(store, span, 50) for span in plan_spans(CONTENT, 50, 20)]
    first, second, third = store.scan()
    store.add_index_part(rows[:2])
    second.unlink()
    assert store.verify() == [
        f"not indexed: {third} (run vadpipe cache rebuild)",
        f"gone: {second} is in the index (run vadpipe cache rebuild)",
    ]
    store.rebuild_index()
    assert store.verify() == []
    first.write_bytes(b"")  # it is broken, and not gone as well
    (problem,) = store.verify()
    assert problem.startswith(f"broken: {first}")


def test_verify_names_a_shard_in_the_wrong_place(tmp_path: Path) -> None:
    store, other = make_store(tmp_path), make_store(tmp_path, version=2)
    write(store, Span(CONTENT, 0, 50, True), 50)
    (path,) = store.scan()
    for place in (
        other.shard_path(Span(CONTENT, 0, 50, True)),
        store.shard_path(Span("s1-" + "cd" * 20, 0, 50, True)),
    ):
        place.parent.mkdir(parents=True)
        place.write_bytes(path.read_bytes())
    for each in (store, other):
        each.rebuild_index()
        (problem,) = [p for p in each.verify() if p.startswith("misplaced")]
        assert f"belongs to {CONTENT} 0-50 {store.key}" in problem


# --------------------------------------------------------------------------------------- full disks


def fail_with(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_disk_that_is_full_in_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    target = {"fsync": os, "replace": Path}[moment]
    store = make_store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(target, moment, fail_with(OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(CannotWrite, match="No space left on device"):
            write(store, Span(CONTENT, 0, 8, True), 8)
    assert list(store.scan()) == [] and not list(store.video_folder(CONTENT).iterdir())


def test_old_temporary_files_go_when_the_index_is_rebuilt(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    write(store, Span(CONTENT, 0, 8, True), 8)
    folders = [store.root / "index", store.video_folder(CONTENT)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".a.host-1-0123abcd.tmp").touch()
        (folder / ".b.host-2-0123abcd.tmp").touch()
        os.utime(folder / ".a.host-1-0123abcd.tmp", (0, 0))
    assert FeatureStore.open(store.root).rebuild_index() == 1
    assert sorted(p.name for p in store.root.rglob("*.tmp")) == [".b.host-2-0123abcd.tmp"] * 2


def test_of_a_shard_that_was_written_twice_the_later_counts(tmp_path: Path) -> None:
    """Whatever the random part of the names; also once they are folded."""
    store = make_store(tmp_path)
    store.add_index_part([ShardRow(CONTENT, 0, 8, 2, 100, "x", True, 99)])
    (part,) = (store.root / "index").iterdir()
    part.rename(part.with_name("f" * 32 + ".parquet"))  # as an older version named them
    for number in range(40):
        store.add_index_part([ShardRow(CONTENT, 0, 8, 2, 100, "x", True, number)])
        assert store.index()["damaged"].to_pylist() == [number]
        if number % 9 == 8:
            store.fold_index(most=3)
            assert store.index()["damaged"].to_pylist() == [number]


def test_what_is_added_while_parts_are_folded_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = make_store(tmp_path), make_store(tmp_path)
    for number in range(4):
        store.add_index_part([ShardRow(CONTENT, 0, 8, 2, 100, "x", True, number)])
    real = ShardIndex.table

    def table(self: ShardIndex, *args: Any) -> Any:
        found = real(self, *args)
        monkeypatch.setattr(ShardIndex, "table", real)
        other.add_index_part([ShardRow(CONTENT, 0, 8, 2, 100, "x", True, 77)])
        return found

    monkeypatch.setattr(ShardIndex, "table", table)
    store.fold_index(most=3)
    assert store.index()["damaged"].to_pylist() == [77]
    assert len(list((store.root / "index").iterdir())) == 2


@given(start=st.integers(0, 10**12), length=st.integers(1, 10**6))
def test_the_name_of_a_shard_holds_its_frames(start: int, length: int) -> None:
    span = Span(CONTENT, start, start + length, True)
    assert frames_of(shard_name(span)) == (start, start + length)


@pytest.mark.parametrize("name", ["x", "1-2.h5", ".000000001-000000002.h5.tmp", "0-1.parquet"])
def test_other_files_are_no_shards(name: str) -> None:
    assert frames_of(name) is None
