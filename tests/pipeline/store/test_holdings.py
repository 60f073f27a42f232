"""Holdings: which spans are there and which videos are whole, without opening what is listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.extractors.base import ArraySpec, Rows
from vadpipe.extractors.clips import Span
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.holdings import Holdings, covers, whole_videos
from vadpipe.pipeline.store.shard import ShardRow, VideoFacts

CONTENT = "s1-" + "ab" * 20
OTHER = "s1-" + "cd" * 20
SPEC = ArraySpec("x", "float16", ("snippet", "feature"), (3,), role="snippet")


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    made = FeatureStore(tmp_path, {"extractor": "toy", "version": 1, "arrays": [SPEC.to_json()]})
    made.create()
    return made


def write(store: FeatureStore, start: int, stop: int, *, last: bool = False) -> ShardRow:
    """A shard that is not listed."""
    n = (stop - start) // 4
    begin = start + 4 * np.arange(n)
    facts = VideoFacts(25.0, stop if last else None)
    rows = {"snippet": Rows(begin, begin + 4, {"x": np.zeros((n, 3), np.float16)})}
    return store.write(Span(CONTENT, start, stop, last), rows, [SPEC], facts, {})


def has(store: FeatureStore, span: Span) -> bool:
    return not Holdings(store, [span.content_id]).missing(span.content_id, [span])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the HDF5 files that are opened from now on."""
    names: list[str] = []
    real: Callable[..., Any] = h5py.File.__init__

    def noting(self: h5py.File, name: Any, *args: Any, **options: Any) -> None:
        if isinstance(name, str | Path):  # else it is a view of a file that is open
            names.append(Path(name).name)
        real(self, name, *args, **options)

    monkeypatch.setattr(h5py.File, "__init__", noting)
    return names


@given(
    borders=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=8),
    start=st.integers(0, 40),
    length=st.integers(1, 30),
)
def test_shards_cover_a_span_if_they_hold_all_of_its_frames(
    borders: list[tuple[int, int]], start: int, length: int
) -> None:
    """Whatever sizes they have, and however they overlap."""
    shards = sorted((first, first + size) for first, size in borders)
    held = {frame for first, stop in shards for frame in range(first, stop)}
    span = Span(CONTENT, start, start + length, False)
    assert covers(shards, span) == (set(range(start, start + length)) <= held)


def test_the_store_has_what_its_shards_cover(store: FeatureStore) -> None:
    for start, stop in ((0, 12), (8, 20), (24, 40)):
        write(store, start, stop)
    for start, stop, there in [
        (0, 20, True),
        (10, 14, True),
        (8, 21, False),
        (20, 24, False),
        (22, 30, False),
        (24, 40, True),
        (30, 41, False),
    ]:
        assert has(store, Span(CONTENT, start, stop, False)) == there, (start, stop)
        assert not has(store, Span(OTHER, start, stop, False))
    (store.video_folder(CONTENT) / "000000020-000000024.h5.tmp").touch()
    assert not has(store, Span(CONTENT, 20, 24, False)), "another name is no shard"


# --- whole videos ----------------------------------------------------------------------------


def test_a_video_is_whole_from_its_start_to_where_the_decoder_ended(store: FeatureStore) -> None:
    assert whole_videos(store, [CONTENT]) == set()
    rows = [write(store, 8, 20, last=True), write(store, 0, 4)]
    assert whole_videos(store, [CONTENT, OTHER]) == set(), "frames 4 to 8 are missing"
    rows.append(write(store, 0, 12))
    assert whole_videos(store, [CONTENT, OTHER]) == {CONTENT}
    store.add_index_part(rows)
    assert whole_videos(store, [CONTENT, OTHER]) == {CONTENT}
    store.shard_path(Span(CONTENT, 8, 20, True)).unlink()
    assert whole_videos(store, [CONTENT]) == set(), "what is listed and gone is not there"


def test_listed_shards_are_not_opened(store: FeatureStore, opened: list[str]) -> None:
    rows = [write(store, 0, 12), write(store, 12, 20, last=True)]
    opened.clear()
    assert whole_videos(store, [CONTENT]) == {CONTENT}
    assert sorted(opened) == ["000000000-000000012.h5", "000000012-000000020.h5"]
    store.add_index_part(rows)
    opened.clear()
    assert whole_videos(store, [CONTENT]) == {CONTENT}
    assert opened == []


def test_unlisted_shards_are_opened_once_and_listed_on_demand(
    store: FeatureStore, opened: list[str]
) -> None:
    write(store, 0, 20, last=True)
    opened.clear()
    holdings = Holdings(store, [CONTENT])
    assert holdings.whole(CONTENT) and holdings.whole(CONTENT)
    assert holdings.missing(CONTENT, [Span(CONTENT, 0, 40, True)]) == ()
    assert len(opened) == 1 and store.index().num_rows == 0, "looking writes nothing"
    holdings.list_unlisted()
    holdings.list_unlisted()
    assert store.index()["last"].to_pylist() == [True]
    assert len(list((store.root / "index").iterdir())) == 1


def test_a_broken_shard_that_is_not_listed_is_missing(store: FeatureStore) -> None:
    write(store, 0, 20, last=True)
    store.shard_path(Span(CONTENT, 0, 20, True)).write_bytes(b"no HDF5")
    holdings = Holdings(store, [CONTENT])
    assert not holdings.whole(CONTENT)
    assert holdings.missing(CONTENT, [Span(CONTENT, 0, 20, True)]) == (0,)
