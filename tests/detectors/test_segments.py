"""Segments: edges, pooling, layouts, and a bank that is the same wherever it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.bags import Bags, bag, weak_bags
from vadpipe.detectors.base import DetectorError, Track
from vadpipe.detectors.segments import (
    BLOCK_BYTES,
    SegmentBank,
    ahead,
    build_bank,
    l2_normalised,
    layout_of,
    narrow,
    pool_segments,
    segment_edges,
    sultani_edges,
    to_segments,
)


@given(st.integers(1, 5000), st.integers(2, 64))
def test_segments_cover_every_row_once_or_repeat_rows(n: int, segments: int) -> None:
    edges = segment_edges(n, segments)
    assert edges[0] == 0 and edges[-1] == n and (np.diff(edges) >= 0).all()
    if n >= segments:
        assert (np.diff(edges) >= 1).all()
        assert np.ptp(np.diff(edges)) <= 1
    other = sultani_edges(n, segments)
    assert other[0] == 0 and other[-1] == n - 1 and (np.diff(other) >= 0).all()


@given(st.integers(1, 200))
def test_pooling_against_loops(n: int) -> None:
    x = np.random.default_rng(n).normal(size=(n, 2, 3))
    pooled = pool_segments(x)
    for i, (start, stop) in enumerate(zip(segment_edges(n), segment_edges(n)[1:], strict=False)):
        expected = x[start] if start == stop else x[start:stop].mean(axis=0)
        assert np.allclose(pooled[i], expected, atol=1e-6)


def test_pooling_keeps_a_constant_and_the_mean() -> None:
    assert (pool_segments(np.full((77, 4), 0.1, np.float16)) == np.float32(np.float16(0.1))).all()
    x = np.random.default_rng(0).normal(size=(320, 4)).astype(np.float32)
    assert np.allclose(pool_segments(x).mean(axis=0), x.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("resampling", ["rtfm", "sultani"])
@given(n=st.integers(2, 64))
def test_what_are_segments_already_is_not_cut_again(n: int, resampling: Any) -> None:
    x = np.random.default_rng(n).normal(size=(n, 2, 3)).astype(np.float32)
    track = Track(x.astype(np.float16), np.arange(n), np.arange(n) + 1)
    assert np.array_equal(to_segments(x, n, resampling), x)
    assert np.array_equal(to_segments(track, n, resampling), x.astype(np.float16))
    longer = np.concatenate([x, x])
    expected = pool_segments(longer, n, resampling)
    assert np.array_equal(to_segments(longer, n, resampling), expected)


@pytest.mark.parametrize("resampling", ["rtfm", "sultani"])
def test_a_bank_takes_videos_of_32_rows_as_they_are(resampling: Any) -> None:
    bags = weak_bags(2, grids=["2x3"], rows=(32, 32))
    bank = make(bags, resampling=resampling)
    for role, values in bank.arrays.items():
        stored = bags[1].tracks[role].rows()
        assert np.array_equal(values[1].numpy(), stored if stored.ndim == 3 else stored[:, None])


def test_a_long_video_is_read_piece_by_piece() -> None:
    class Counting:
        shape = (100_000, 1024)
        dtype = np.dtype(np.float32)
        largest = 0

        def __getitem__(self, rows: slice) -> Any:
            start, stop, _ = rows.indices(100_000)
            self.largest = max(self.largest, stop - start)
            return np.repeat(np.arange(start, stop, dtype=np.float32)[:, None], 1024, axis=1)

    array = Counting()
    n = 100_000
    track = Track(array, np.arange(n), np.arange(n) + 1)
    pooled = pool_segments(track)
    assert array.largest * 4096 < BLOCK_BYTES / 16
    assert np.allclose(pooled[:, 0], np.arange(32) * 3125 + 1562, rtol=1e-6)


def test_narrow_averages_neighbours() -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 12)
    assert narrow(x, 4).tolist() == [[1, 4, 7, 10]]
    assert narrow(x, None) is x
    with pytest.raises(DetectorError, match="12 columns"):
        narrow(x, 5)


def test_l2_normalised() -> None:
    x = l2_normalised(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert x.tolist() == [[np.float32(0.6), np.float32(0.8)], [0.0, 0.0]]


def test_layout_names_every_video_that_differs() -> None:
    good = weak_bags(4, grids=["2x3"])
    layout = layout_of(good, ("snippet", "patch"))
    assert (layout.width, dict(layout.positions)) == (16, {"snippet": 1, "patch/2x3": 6})
    assert layout.grids == {"patch/2x3": (2, 3)}
    wide = np.zeros((20, 8), np.float32)
    patches = np.zeros((20, 6, 16), np.float32)
    empty = np.zeros((0, 16), np.float32)
    bags = [
        *good.bags,
        bag("wide", {"snippet": wide, "patch/2x3": patches}, 0),
        bag("empty", {"snippet": empty, "patch/2x3": patches[:0]}, 0),
        bag("turned", {"snippet": np.zeros((20, 16)), "patch/3x2": patches}, 0),
    ]
    with pytest.raises(DetectorError, match=r"features of 3 videos") as caught:
        layout_of(Bags(bags), ("snippet", "patch"))
    for words in ("wide: snippet 8 instead of 16", "empty: no rows of", "turned: patch/2x3 absent"):
        assert words in str(caught.value)


def make(bags: Bags, **options: Any) -> SegmentBank:
    defaults: dict[str, Any] = {
        "segments": 32,
        "resampling": "rtfm",
        "prepare": lambda rows: rows,
        "device": "cpu",
        "memory": None,
        "scratch": None,
    }
    roles = ("snippet", *(("patch",) if len(bags[0].tracks) > 1 else ()))
    return build_bank(bags, layout_of(bags, roles), **{**defaults, **options})


def test_a_bank_is_the_same_in_memory_and_on_disk(tmp_path: Path) -> None:
    bags = weak_bags(5, grids=["2x3"], crops=2)
    videos = np.array([3, 0, 3])
    resident = make(bags)
    streamed = make(bags, memory=1, scratch=tmp_path)
    assert (resident.place, streamed.place) == ("device", "disk")
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.f32")) == 5 * 32 * (2 + 6) * 16 * 4
    for role, values in resident.gather(["snippet", "patch/2x3"], videos).items():
        assert torch.equal(values, streamed.gather([role], videos)[role])
        expected = pool_segments(bags[3].tracks[role].rows())
        assert np.array_equal(values[0].numpy(), expected)
    streamed.close()
    assert not list(tmp_path.iterdir())


def test_what_is_not_finite_is_named_with_its_place(tmp_path: Path) -> None:
    bags = weak_bags(4)
    for v, value in ((1, np.nan), (3, np.inf)):
        rows = bags[v].tracks["snippet"].rows()
        rows[[2, 7]] = value
    with pytest.raises(DetectorError, match="2 videos cannot be trained on") as caught:
        make(bags, memory=1, scratch=tmp_path)
    assert "v01: snippet is not finite in 2 of" in str(caught.value)
    assert "v03" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_tracks_at_other_frames_are_named() -> None:
    bags = weak_bags(2, grids=["2x3"])
    short = {
        role: track.rows(0, 10 + (role == "snippet")) for role, track in bags[0].tracks.items()
    }
    with pytest.raises(DetectorError, match="odd: snippet has 11 rows and patch/2x3 10"):
        make(Bags([bags[0], bag("odd", short, 1)]))


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_ahead_keeps_the_order_and_passes_errors_on(depth: int) -> None:
    assert list(ahead(lambda i: i * i, range(7), depth)) == [0, 1, 4, 9, 16, 25, 36]
    seen = []
    with pytest.raises(ZeroDivisionError):
        for value in ahead(lambda i: 1 / (2 - i), range(5), depth):
            seen.append(value)
    assert seen == [0.5, 1.0]
