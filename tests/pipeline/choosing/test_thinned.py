"""Fewer boxes and rows: what an extraction with that threshold and stride returns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.moving_objects import moving
from vadpipe.detectors.base import Bag, DetectorError, Track
from vadpipe.detectors.object_maps import read_objects
from vadpipe.pipeline.choosing.thinned import HeldBags, thinned


def scored(seed: int, **how: int) -> Bag:
    bag = moving(seed, frames=12, each=3, **how)
    boxes = bag.tracks["object/boxes"]
    scores = np.random.default_rng(seed).random(len(boxes)).astype(np.float32)
    return Bag(
        **{
            **vars(bag),
            "tracks": {
                **bag.tracks,
                "object/scores": Track(scores, boxes.frame_start, boxes.frame_stop),
            },
        }
    )


def test_boxes_and_rows_are_those_above_and_at_the_stride() -> None:
    bag = scored(1)
    thin = thinned(bag, 0.5, 3)
    objects = read_objects(thin)
    assert objects.frame_start.tolist() == [0, 3, 6, 9]
    frames = bag.tracks["object/boxes"].frame_start
    chosen = (bag.tracks["object/scores"].rows() >= 0.5) & np.isin(frames, [0, 3, 6, 9])
    assert 0 < chosen.sum() < len(chosen)
    for role in ("object/boxes", "object/scores", "object/classes", "object/crops"):
        np.testing.assert_array_equal(thin.tracks[role].rows(), bag.tracks[role].rows()[chosen])
        np.testing.assert_array_equal(thin.tracks[role].frame_start, frames[chosen])
    counts = [int((frames[chosen] == frame).sum()) for frame in (0, 3, 6, 9)]
    assert thin.tracks["frame/objects"].rows().tolist() == counts
    assert "pixels" not in thin.tracks
    assert (thin.n_frames, thin.fps) == (bag.n_frames, bag.fps)


def test_all_boxes_of_every_frame_are_the_bag_itself() -> None:
    bag = scored(2)
    thin = thinned(bag, 0.0, 1)
    for role, track in thin.tracks.items():
        np.testing.assert_array_equal(track.rows(), bag.tracks[role].rows())


def test_what_nobody_looks_at_is_not_read() -> None:
    bag = scored(2)
    crops = bag.tracks["object/crops"]
    read: list[slice] = []

    class Watched:
        shape, dtype = crops.array.shape, crops.array.dtype

        def __getitem__(self, rows: slice) -> np.ndarray:
            read.append(rows)
            return crops.array[rows]

    watched = Track(Watched(), crops.frame_start, crops.frame_stop)
    thin = thinned(replace(bag, tracks={**bag.tracks, "object/crops": watched}), 0.5, 3)
    assert not read
    part, kept = thin.tracks["object/crops"], thinned(bag, 0.5, 3).tracks["object/crops"]
    assert part.array.shape == kept.rows().shape and part.array.dtype == kept.rows().dtype
    assert not read
    np.testing.assert_array_equal(part.rows(1, 3), kept.rows()[1:3])
    part.rows()
    assert len(read) == 1


def test_a_stride_that_rows_do_not_fit_is_refused() -> None:
    every_second = thinned(scored(3), 0.0, 2)
    assert len(thinned(every_second, 0.0, 4).tracks["frame/size"]) == 3
    with pytest.raises(DetectorError, match="rows 2 frames apart, which a stride of 3"):
        thinned(every_second, 0.0, 3)


def test_a_bag_without_objects_says_how_to_get_them() -> None:
    with pytest.raises(DetectorError, match="vadpipe extract -e objects"):
        thinned(Bag("a", None, 1, 1.0, {}), 0.0, 1)


def test_held_bags_return_rows_as_a_store_does() -> None:
    bags = (scored(1), scored(2))
    source = HeldBags(bags)
    rows = source.subset([1]).video_rows("object/boxes")
    assert list(rows.video_ids) == ["v2"] and rows.counts.tolist() == [36]
    assert (rows.shape, rows.dtype) == ((4,), np.dtype("float32"))
    out = np.zeros((5, 4), np.float32)
    rows.read_into(out, 0, 7)
    np.testing.assert_array_equal(out, bags[1].tracks["object/boxes"].rows(7, 12))
    assert [bag.video_id for bag in source] == ["v1", "v2"] and len(source) == 2
    with pytest.raises(DetectorError, match="v1, v2: no 'flow' features"):
        source.video_rows("flow")
