"""speed_peak: a slow oracle, frames without objects, regions, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bags import Bags
from tests.edge_objects import CROWD, crowd, edges, first_frames, with_boxes
from vadpipe.detectors.base import Bag, DetectorError, Track
from vadpipe.detectors.speed_peak import SpeedPeak, SpeedPeakConfig
from vadpipe.pipeline.scores.regions import checked_regions

RNG = np.random.default_rng(0)
COUNTS = [2, 0, 3, 1]  # objects of the frames 0, 3, 6 and 9


def boxes_of(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(0, 40, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(1, 20, (count, 2))], 1).astype(np.float32)


def video(counts: list[int], seed: int = 0) -> Bag:
    rng = np.random.default_rng(seed)
    frames = np.arange(len(counts), dtype=np.int64) * 3
    of = np.repeat(frames, counts)
    arrays = {
        "object/flow": (rng.random((len(of), 4)).astype(np.float32), of),
        "object/boxes": (boxes_of(rng, len(of)), of),
        "frame/objects": (np.array(counts, np.int32), frames),
    }
    tracks = {role: Track(x, start, start + 1) for role, (x, start) in arrays.items()}
    return Bag("v", None, 3 * len(counts), 25.0, tracks)


def test_scores_equal_a_slow_oracle() -> None:
    bag = video(COUNTS)
    scores = SpeedPeak(SpeedPeakConfig()).score(bag)
    flow = bag.tracks["object/flow"]
    for row, frame in enumerate((0, 3, 6, 9)):
        speeds = [
            float(speed)
            for start, (speed, *_) in zip(flow.frame_start, flow.rows(), strict=True)
            if start == frame
        ]
        assert scores.columns["score"][row] == max(speeds, default=0.0)
    assert scores.columns["score"][1] == 0 and scores.frame_start.tolist() == [0, 3, 6, 9]


def test_every_box_is_a_region_with_its_speed() -> None:
    bag = video(COUNTS)
    regions = SpeedPeak(SpeedPeakConfig(fill=False)).score(bag).regions
    assert regions is not None
    assert regions["frame"].to_pylist() == [0, 0, 6, 6, 6, 9]
    corners = np.stack([regions[side].to_numpy() for side in ("x0", "y0", "x1", "y1")], 1)
    assert np.array_equal(corners, bag.tracks["object/boxes"].rows())
    assert np.array_equal(regions["score"].to_numpy(), bag.tracks["object/flow"].rows()[:, 0])


def test_boxes_between_rows_are_filled_in_and_scores_stay() -> None:
    """An object that moves by 3 pixels a frame, and becomes faster, seen at every third frame."""
    frames = np.array([0, 3, 6], np.int64)
    boxes = np.array([[9 * i, 0, 9 * i + 60, 60] for i in range(3)], np.float32)
    flow = np.array([[3 * i, 0, 0, 0] for i in range(3)], np.float32)
    arrays = {"object/flow": flow, "object/boxes": boxes, "frame/objects": np.ones(3, np.int32)}
    tracks = {role: Track(array, frames, frames + 1) for role, array in arrays.items()}
    bag = Bag("v", None, 8, 25.0, tracks)
    filled, apart = (SpeedPeak(SpeedPeakConfig(fill=fill)).score(bag) for fill in (True, False))
    assert filled.regions is not None and apart.regions is not None
    assert filled.regions["frame"].to_pylist() == list(range(8))
    assert filled.regions["x0"].to_pylist() == [0, 3, 6, 9, 12, 15, 18, 18]
    assert filled.regions["score"].to_pylist() == [0, 1, 2, 3, 4, 5, 6, 6]
    assert apart.regions["frame"].to_pylist() == [0, 3, 6]
    assert filled.columns["score"].tolist() == apart.columns["score"].tolist() == [0, 3, 6]


def test_a_video_without_objects_has_no_speed() -> None:
    scores = SpeedPeak(SpeedPeakConfig()).score(video([0, 0]))
    assert scores.columns["score"].tolist() == [0, 0]
    assert scores.regions is not None and scores.regions.num_rows == 0


def test_boxes_at_the_edges_and_crowds() -> None:
    """Each counts for its frame; one without pixels is no region, as nothing could be drawn."""
    bag = video(COUNTS)
    there, nothing = edges(48, 64)
    detector = SpeedPeak(SpeedPeakConfig(fill=False))
    scores = detector.score(with_boxes(bag, 6, [*there, *nothing]))
    first = bag.tracks["object/flow"].rows()[0, 0]
    usual = detector.score(bag).columns["score"]
    assert scores.columns["score"][2] == max(usual[2], first)
    assert checked_regions(scores.regions)["frame"].to_pylist().count(6) == COUNTS[2] + len(there)
    full = detector.score(with_boxes(bag, 6, crowd(48, 64))).regions
    assert checked_regions(full)["frame"].to_pylist().count(6) == COUNTS[2] + CROWD


@pytest.mark.parametrize("frames", [1, 4, 6])
def test_short_videos(frames: int) -> None:
    """Of a video with a stride of 3; the boxes of the last row stay to its end."""
    bag = video(COUNTS)
    scores = SpeedPeak(SpeedPeakConfig()).score(first_frames(bag, frames))
    whole = SpeedPeak(SpeedPeakConfig()).score(bag).columns["score"]
    assert np.array_equal(scores.columns["score"], whole[: -(-frames // 3)])
    assert max(checked_regions(scores.regions)["frame"].to_pylist()) < frames


def test_what_cannot_be_scored_is_an_error() -> None:
    bag = video(COUNTS)
    tracks = {role: track for role, track in bag.tracks.items() if role != "object/boxes"}
    detector = SpeedPeak(SpeedPeakConfig())
    with pytest.raises(DetectorError, match="no object/boxes: extract objects with --set flow=dis"):
        detector.score(Bag("v", None, 12, 25.0, tracks))
    frames = bag.tracks["frame/objects"]
    for rows in (slice(0, 3), slice(1, 4)):
        cut = Track(frames.rows()[rows], frames.frame_start[rows], frames.frame_stop[rows])
        with pytest.raises(DetectorError, match="objects of frames that it has no rows for"):
            detector.score(Bag("v", None, 12, 25.0, {**bag.tracks, "frame/objects": cut}))


def test_nothing_is_learned() -> None:
    detector, source = SpeedPeak(SpeedPeakConfig()), Bags([video(COUNTS)])
    assert detector.fit(source, device="cpu", seed=0).summary == {"videos": 1}
    held_out = detector.held_out_scores(source, seed=0)
    assert held_out is not None
    expected = detector.score(source[0]).columns["score"]
    assert np.array_equal(held_out[0].columns["score"], expected)
