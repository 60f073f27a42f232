"""Holdings: which spans are there and which videos are whole, without opening what is listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chain import video
from vadpipe.extractors.base import ArraySpec, Rows
from vadpipe.extractors.clips import Span
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.holdings import Holdings, covers, current_videos, whole_videos
from vadpipe.pipeline.store.shard import ShardRow, VideoFacts

CONTENT = "s1-" + "ab" * 20
OTHER = "s1-" + "cd" * 20
SPEC = ArraySpec("x", "float16", ("snippet", "feature"), (3,), role="snippet")


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    made = FeatureStore(tmp_path, {"extractor": "toy", "version": 1, "arrays": [SPEC.to_json()]})
    made.create()
    return made


def write(
    store: FeatureStore,
    start: int,
    stop: int,
    *,
    last: bool = False,
    n_frames: int | None = None,
    whole_id: str = "",
    flags: tuple[str, ...] = (),
) -> ShardRow:
    """A shard that is not listed."""
    n = (stop - start) // 4
    begin = start + 4 * np.arange(n)
    found = (stop if n_frames is None else n_frames) if last else None
    facts = VideoFacts(25.0, found, flags, whole_id=whole_id)
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


# -------------------------------------------------------------------------- of the file at hand

FILE = replace(video(24, CONTENT), whole_id="f1-" + "ab" * 20)
ANOTHER = "f1-" + "cd" * 20


def agrees(store: FeatureStore, *counts: int) -> bool:
    return Holdings(store, [CONTENT]).agrees(FILE, *counts)


@pytest.mark.parametrize("listed", [True, False])
def test_shards_of_another_file_do_not_count(store: FeatureStore, listed: bool) -> None:
    rows = [
        write(store, 0, 12, whole_id=FILE.whole_id),
        write(store, 12, 24, last=True, whole_id=FILE.whole_id),
    ]
    store.add_index_part(rows if listed else [])
    assert agrees(store, 24) and agrees(store) and current_videos(store, [FILE]) == {CONTENT}
    store.add_index_part([write(store, 0, 12, whole_id=ANOTHER)])  # one is enough
    assert not agrees(store, 24) and not agrees(store) and not current_videos(store, [FILE])
    assert whole_videos(store, [CONTENT]), "it is all there, but not of this file"
    by_hand = replace(FILE, whole_id="")
    assert Holdings(store, [CONTENT]).agrees(by_hand, 24), "there is nothing to compare with"


@pytest.mark.parametrize(
    ("whole_id", "stop", "n_frames", "flags", "good"),
    [
        ("", 24, 24, (), True),
        ("", 24, 16, ("header_mismatch",), False),  # an older version: nothing proves it
        ("", 16, 24, ("header_mismatch",), True),  # probed again with all frames decoded
        ("", 16, 16, (), False),
        (FILE.whole_id, 24, 16, ("header_mismatch",), True),
        (FILE.whole_id, 16, 16, ("header_mismatch",), True),  # planned by a probe that decoded
        (FILE.whole_id, 16, 16, (), False),
    ],
)
def test_the_number_of_frames_has_to_be_that_of_the_probe_or_explained(
    store: FeatureStore,
    whole_id: str,
    stop: int,
    n_frames: int,
    flags: tuple[str, ...],
    good: bool,
) -> None:
    row = write(store, 0, stop, last=True, n_frames=n_frames, whole_id=whole_id, flags=flags)
    store.add_index_part([row])
    assert agrees(store, 24) is good
    assert (current_videos(store, [FILE]) == {CONTENT}) is good
    assert agrees(store), "without a number, none is compared"


def test_what_an_older_index_does_not_say_is_looked_up_once(
    store: FeatureStore, opened: list[str]
) -> None:
    store.add_index_part([write(store, 0, 24, last=True)])
    (part,) = (store.root / "index").iterdir()
    pq.write_table(pq.read_table(part).drop_columns(["n_frames", "whole_id"]), part)
    opened.clear()
    for expected in (1, 1):
        held = Holdings(store, [CONTENT])
        assert held.agrees(FILE, 24)
        held.list_unlisted()
        assert len(opened) == expected


def test_a_video_that_is_not_there_contradicts_nothing(store: FeatureStore) -> None:
    assert agrees(store, 24) and not current_videos(store, [FILE])
    write(store, 0, 12)
    assert agrees(store, 24), "an older version has begun it"


def test_unlisting_leaves_the_others(store: FeatureStore) -> None:
    first = write(store, 0, 12)
    store.add_index_part([first, replace(first, content_id=OTHER)])
    store.add_index_part([write(store, 12, 24, last=True)])
    store.unlist([CONTENT])
    assert [row["content_id"] for row in store.index().to_pylist()] == [OTHER]
    store.unlist([OTHER])
    store.unlist([OTHER])
    assert store.index().num_rows == 0
