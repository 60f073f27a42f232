"""Which videos are scored together; scores, order and failures are tested with the stage."""

from __future__ import annotations

from vadpipe.data_manifests.record import VideoRecord
from vadpipe.detectors.base import Detector
from vadpipe.detectors.knn import KNN, KNNConfig
from vadpipe.detectors.rtfm import RTFM, RTFMConfig
from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline.scores.steps import FEWEST, FRAMES_TOGETHER, groups_of


def sizes(detector: Detector, frames: list[int]) -> list[int]:  # type: ignore[type-arg]
    """How many videos each group has; they stay in order."""
    rows = {
        f"v{i}": ProbeRow("", f"c{i}", "features", n, False, 25.0, 0, 0, 0, n / 25, "", "")
        for i, n in enumerate(frames)
    }
    records = [VideoRecord(video_id=name, path=None, split="test") for name in rows]
    groups = list(groups_of(detector, records, rows))
    assert [record for group in groups for record in group] == records
    return [len(group) for group in groups]


def test_short_videos_are_scored_together_and_long_ones_alone() -> None:
    half, whole = FRAMES_TOGETHER // 2, FRAMES_TOGETHER
    detector = RTFM(RTFMConfig())
    assert sizes(detector, [half, half, half]) == [2, 1]
    assert sizes(detector, [FEWEST, 10 * whole, half, half + 1]) == [1, 1, 1, 1]
    assert sizes(detector, [0] * 70) == [32, 32, 6], "a video without a length counts too"
    assert sizes(detector, []) == []


def test_a_detector_that_gains_nothing_gets_one_by_one() -> None:
    assert sizes(KNN(KNNConfig()), [1, 2, 3]) == [1, 1, 1]
