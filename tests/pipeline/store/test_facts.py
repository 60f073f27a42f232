"""What a shard says of itself: sealed, typed, and only in its own place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.pipeline.store.test_feature_store import CONTENT, make_store, write
from vadpipe.extractors.clips import Span
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.facts import SEAL, facts_of
from vadpipe.pipeline.store.feature_store import FeatureStore
from vadpipe.pipeline.store.holdings import ending_of
from vadpipe.pipeline.store.shard import row_of, verify_shard
from vadpipe.pipeline.store.sharded_array import copy_rows

OTHER = "s1-" + "cd" * 20
SPAN = Span(CONTENT, 0, 8, True)

WRONG: dict[str, Any] = {
    "fps": "abc",
    "last": np.array([1, 0]),
    "n_frames": -5.5,
    "flags": b"\xff\xfe",
    "content_id": np.zeros(3),
    "frame_start": "zero",
    "damaged": "1e99",
    "checksum": 7,
    "axes": "",
}


def edit(path: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def as_format_2(path: Path) -> None:
    """The shard as version 0.2 wrote it: without a seal."""

    def change(file: h5py.File) -> None:
        del file.attrs[SEAL]
        file.attrs["format"] = 2

    edit(path, change)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = make_store(tmp_path)
    store.add_index_part([write(store, SPAN, 8)])
    return store


def test_a_shard_without_a_seal_is_read_if_its_format_had_none(store: FeatureStore) -> None:
    path = store.shard_path(SPAN)
    row, said = row_of(path), verify_shard(path)
    as_format_2(path)
    assert row_of(path) == replace(row, size=path.stat().st_size)
    assert verify_shard(path) == replace(said, format=2) and store.verify() == []
    assert store.read(CONTENT).n_frames == 8
    edit(path, lambda file: file.attrs.__setitem__("format", 3))
    with pytest.raises(StoreError, match="seal over its attributes is missing"):
        store.read(CONTENT)


@pytest.mark.parametrize("name", WRONG)
def test_attributes_of_older_shards_are_typed(store: FeatureStore, name: str) -> None:
    path = store.shard_path(SPAN)
    as_format_2(path)
    edit(path, lambda file: file.attrs.__setitem__(name, WRONG[name]))
    for read in (row_of, verify_shard, lambda _: store.read(CONTENT)):
        with pytest.raises(StoreError):
            read(path)
    assert len(store.verify()) == 1


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_is_above_zero(store: FeatureStore, fps: float) -> None:
    path = store.shard_path(SPAN)
    as_format_2(path)
    edit(path, lambda file: file.attrs.__setitem__("fps", fps))
    with pytest.raises(StoreError, match="fps"):
        row_of(path)


@pytest.mark.parametrize("name", ["fps", "last", "n_frames", "flags", "content_id", "whole_id"])
def test_what_is_under_the_seal_counts_and_a_change_is_named(
    store: FeatureStore, name: str
) -> None:
    path = store.shard_path(SPAN)
    edit(path, lambda file: file.attrs.__setitem__(name, 99.5))
    features = store.read(CONTENT)
    assert (features.fps, features.n_frames, features.flags) == (25.0, 8, ("rotated",))
    (problem,) = store.verify()
    assert problem.startswith("broken") and f"attributes were changed: {name}" in problem


def test_an_attribute_that_is_gone_is_named(store: FeatureStore) -> None:
    edit(store.shard_path(SPAN), lambda file: file.attrs.__delitem__("damaged"))
    assert "attributes were changed: damaged" in store.verify()[0]


def test_a_seal_that_was_edited_is_broken(store: FeatureStore) -> None:
    path = store.shard_path(SPAN)

    def change(file: h5py.File) -> None:
        file.attrs[SEAL] = str(file.attrs[SEAL]).replace("25.0", "50.0")

    edit(path, change)
    with pytest.raises(StoreError, match="seal over its attributes is broken"):
        store.read(CONTENT)
    with h5py.File(path, "r") as file, pytest.raises(StoreError, match="broken"):
        facts_of(file)
    assert len(store.verify()) == 1


def swapped(store: FeatureStore, what: str, root: Path) -> tuple[FeatureStore, list[Span]]:
    """Two shards exchanged by name; returns the store and the spans that are in the wrong place."""
    if what == "spans":
        spans = [Span(OTHER, 0, 4, False), Span(OTHER, 4, 8, True)]
        store.add_index_part([write(store, span, 8) for span in spans])
        pairs = [store.shard_path(span) for span in spans]
    elif what == "videos":
        spans = [SPAN, Span(OTHER, 0, 8, True)]
        store.add_index_part([write(store, spans[1], 8)])
        pairs = [store.shard_path(span) for span in spans]
    else:
        spans, other = [SPAN], make_store(root, version=2)
        other.add_index_part([write(other, SPAN, 8)])
        pairs = [each.shard_path(SPAN) for each in (store, other)]
    first, second = (path.read_bytes() for path in pairs)
    pairs[0].write_bytes(second)
    pairs[1].write_bytes(first)
    return store, spans


@pytest.mark.parametrize("what", ["spans", "videos", "feature sets"])
@pytest.mark.parametrize("old", [False, True])
def test_shards_that_were_exchanged_are_caught_by_every_way_to_read(
    store: FeatureStore, what: str, old: bool
) -> None:
    store, spans = swapped(store, what, store.root.parents[1])
    for span in spans:
        path = store.shard_path(span)
        if old:
            as_format_2(path)
        with pytest.raises(StoreError, match="belongs to"):
            row_of(path)
        with pytest.raises(StoreError, match="belongs to"):
            copy_rows(path, "snippet", "x", 0, np.empty((1, 3), np.float16))
    with pytest.raises(StoreError, match="belongs to"):
        store.read(spans[0].content_id)
    with pytest.raises(StoreError, match="belongs to"):
        ending_of(store, spans[0].content_id)
    assert len([p for p in store.verify() if p.startswith("misplaced")]) == len(spans)


def test_reading_compares_types_and_shapes_with_the_recipe(store: FeatureStore) -> None:
    def change(file: h5py.File) -> None:
        values = file["snippet/x"][:]
        del file["snippet/x"]
        file.create_dataset("snippet/x", data=values.astype("f8"))

    edit(store.shard_path(SPAN), change)
    with pytest.raises(StoreError, match=r"is float64 \(3,\), but the recipe states float16"):
        store.read(CONTENT)
