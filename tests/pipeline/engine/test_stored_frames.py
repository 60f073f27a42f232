"""Frames out of shards: the same as decoded ones, from any start, with their damage."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.chain import FRAMES, SIZE, derived, drawing, drawn, run_chain, video
from vadpipe.extractors.footage.errors import CorruptFrames
from vadpipe.extractors.footage.video import Frame
from vadpipe.pipeline.engine.sources import MissingSource, PixelSource
from vadpipe.pipeline.engine.stored_frames import stored_frames
from vadpipe.pipeline.store.errors import StoreError
from vadpipe.pipeline.store.feature_store import FeatureStore

N = 70  # more than two blocks
ROW = video(N)


def keep(cache: Path, span_frames: int = 1000, bad: tuple[int, ...] = ()) -> FeatureStore:
    return run_chain(cache, ROW, [FRAMES], span_frames, drawing(N, bad))[0]


def read(cache: Path, store: FeatureStore, start: int = 0) -> list[Frame]:
    return list(stored_frames(PixelSource.of(store), cache, ROW, start))


@pytest.mark.parametrize("span_frames", [9, 1000])
def test_the_same_frames_as_the_decoder(tmp_path: Path, span_frames: int) -> None:
    store = keep(tmp_path, span_frames)
    for start in (0, 8, 9, 33, N - 1):
        frames = read(tmp_path, store, start)
        assert [frame.index for frame in frames] == list(range(start, N))
        for frame in frames:
            expected = drawn(frame.index)
            assert frame.image.shape == (*SIZE, 3)
            assert np.array_equal(frame.image, expected.image)
            assert frame.pts == expected.pts and not frame.corrupt


def test_overlapping_shards_give_each_frame_once(tmp_path: Path) -> None:
    store = keep(tmp_path, 9)
    store.shards(ROW.content_id)[-1][2].unlink()
    run_chain(tmp_path, ROW, [FRAMES], 16, drawing(N))
    assert len(store.shards(ROW.content_id)) > 8
    assert [frame.index for frame in read(tmp_path, store)] == list(range(N))


def test_the_reader_says_that_the_video_has_ended(tmp_path: Path) -> None:
    reader = stored_frames(PixelSource.of(keep(tmp_path)), tmp_path, ROW)
    assert not reader.at_end
    assert len(list(reader)) == N
    assert reader.at_end and not reader.cut_off and reader.failed_packets == 0


def test_missing_shards_are_no_end_of_the_video(tmp_path: Path) -> None:
    store = keep(tmp_path, 10)
    for number in (-1, 3):
        store.shards(ROW.content_id)[number][2].unlink()
        last = store.shards(ROW.content_id)[-1 if number == -1 else 2][1]
        with pytest.raises(MissingSource, match=f"from {last} on.*vadpipe extract MANIFEST"):
            read(tmp_path, store)


def test_damaged_frames_are_marked_and_no_others(tmp_path: Path) -> None:
    bad = (3, 4, 5, 12, 69)
    store = keep(tmp_path, 10, bad)
    assert tuple(f.index for f in read(tmp_path, store) if f.corrupt) == bad
    # a shard of version 0.1 has the number only
    with h5py.File(store.shards(ROW.content_id)[1][2], "r+") as file:
        assert (file.attrs["damaged"], file.attrs["damaged_frames"]) == (1, "12")
        del file.attrs["damaged_frames"], file.attrs["seal"]
        file.attrs["format"] = 2
    marked = [f.index for f in read(tmp_path, store) if f.corrupt]
    assert marked == [3, 4, 5, *range(10, 20), 69]


def test_policies_for_damaged_frames_hold_for_a_source(tmp_path: Path) -> None:
    store = keep(tmp_path, 16, (20,))
    kept, skipped = (derived(store, before=0, after=0, on_corrupt=p) for p in ("keep", "skip"))
    sets = run_chain(tmp_path, ROW, [kept, skipped], 32)
    counts = [each.read(ROW.content_id).damaged for each in sets]
    assert counts == [1, 1]
    starts = [each.read(ROW.content_id).frame_start.tolist() for each in sets]
    assert sorted({*starts[0]} - {*starts[1]}) == [18]
    assert "corrupt_frames" in sets[0].read(ROW.content_id).flags
    with pytest.raises(CorruptFrames, match="frame 20 is damaged"):
        run_chain(tmp_path / "fail", ROW, [FRAMES], 16, drawing(N, (20,)))
        run_chain(tmp_path / "fail", ROW, [derived(store, on_corrupt="fail")], 32)


def test_rows_that_are_not_one_for_each_frame_are_refused(tmp_path: Path) -> None:
    store = keep(tmp_path)
    with h5py.File(store.shards(ROW.content_id)[0][2], "r+") as file:
        file["frame/frame_start"][5] = 4
    with pytest.raises(StoreError, match="not one for each frame; see vadpipe cache verify"):
        read(tmp_path, store)
