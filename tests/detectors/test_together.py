"""Several videos in one batch: the scores of each are those that it has alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.detectors.base import Bag, DetectorError, Scores, Track
from vadpipe.detectors.mil import MILDetector
from vadpipe.detectors.mil_ranking import MILRanking, MILRankingConfig
from vadpipe.detectors.rtfm import RTFM, RTFMConfig
from vadpipe.detectors.segments import FeatureLayout
from vadpipe.detectors.ssrl import SSRL, SSRLConfig
from vadpipe.detectors.together import ROWS_TOGETHER, filled

WIDTH = 32
GRIDS = {"patch/2x3": (2, 3), "patch/1x2": (1, 2)}
LENGTHS = (5, 9, 5, 1, ROWS_TOGETHER + 3, 5, 9, 64)
MAKERS = {
    "mil_ranking": lambda: MILRanking(MILRankingConfig()),
    "rtfm": lambda: RTFM(RTFMConfig()),
    "ssrl": lambda: SSRL(SSRLConfig(branch_gain=1.0)),
}


@pytest.fixture(params=MAKERS)
def detector(request: pytest.FixtureRequest) -> MILDetector[Any, Any]:
    """One with random weights, batch norms included, as if it had been trained."""
    made = MAKERS[request.param]()
    positions = {"snippet": 2}
    grids = GRIDS if request.param == "ssrl" else {}
    layout = FeatureLayout(
        WIDTH, positions | {role: rows * columns for role, (rows, columns) in grids.items()}, grids
    )
    torch.manual_seed(0)
    network = made.make_network(layout)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                for values in (module.weight, module.bias, module.running_mean):
                    torch.nn.init.normal_(values)
    made.network, made.layout = network.eval(), layout
    return made


def bag(detector: MILDetector[Any, Any], n: int, seed: int) -> Bag:
    rng = np.random.default_rng(seed)
    start = 16 * np.arange(n)
    assert detector.layout is not None
    tracks = {}
    for role, positions in detector.layout.positions.items():
        rows = rng.standard_normal((n, positions, WIDTH)).astype(np.float32)
        tracks[role] = Track(rows, start, start + 16, detector.layout.grids.get(role))
    return Bag(f"v{seed}", None, 16 * n, 25.0, tracks)


def assert_close(got: Scores, want: Scores) -> None:
    np.testing.assert_array_equal(got.frame_start, want.frame_start)
    np.testing.assert_array_equal(got.frame_stop, want.frame_stop)
    assert got.columns.keys() == want.columns.keys() and got.maps.keys() == want.maps.keys()
    for name, values in {**want.columns, **want.maps}.items():
        found = {**got.columns, **got.maps}[name]
        assert found.shape == values.shape and found.dtype == values.dtype
        assert np.abs(found - values).max() <= 1e-5 * np.sqrt((values**2).mean())


def test_scores_are_those_of_each_video_alone(detector: MILDetector[Any, Any]) -> None:
    """Of equal and unequal lengths, of one row and of more than a batch has."""
    bags = [bag(detector, n, seed) for seed, n in enumerate(LENGTHS)]
    alone = [detector.score(each) for each in bags]
    assert len({float(scores.columns["score"][0]) for scores in alone}) == len(bags)
    for got, want in zip(detector.score_together(bags), alone, strict=True):
        assert_close(got, want)


def test_one_video_has_the_same_bits(detector: MILDetector[Any, Any]) -> None:
    video = bag(detector, 7, 0)
    (together,), alone = detector.score_together([video]), detector.score(video)
    for name, values in {**alone.columns, **alone.maps}.items():
        np.testing.assert_array_equal({**together.columns, **together.maps}[name], values)
    assert detector.score_together([]) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_scores_together_on_a_gpu_are_those_of_a_cpu(detector: MILDetector[Any, Any]) -> None:
    bags = [bag(detector, n, seed) for seed, n in enumerate(LENGTHS)]
    alone = [detector.score(each) for each in bags]
    detector.to("cuda:0")
    for got, want in zip(detector.score_together(bags), alone, strict=True):
        for name, values in {**want.columns, **want.maps}.items():
            found = {**got.columns, **got.maps}[name]
            assert np.abs(found - values).max() <= 5e-3 * np.sqrt((values**2).mean())


def test_rows_of_a_batch_are_bounded(
    detector: MILDetector[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[int]] = []
    score_rows = detector.score_rows

    def noting(network: Any, features: Any, lengths: Any) -> Any:
        given.append(list(lengths))
        return score_rows(network, features, lengths)

    monkeypatch.setattr(detector, "score_rows", noting)
    detector.score_together([bag(detector, n, seed) for seed, n in enumerate(LENGTHS)])
    assert given == [[5, 9, 5, 1], [ROWS_TOGETHER + 3], [5, 9, 64]]


def test_one_that_cannot_be_scored_is_named(detector: MILDetector[Any, Any]) -> None:
    bags = [bag(detector, 4, seed) for seed in range(3)]
    rows = bags[1].tracks["snippet"].array
    assert isinstance(rows, np.ndarray)
    rows[2, 0, 3] = np.nan
    with pytest.raises(DetectorError, match="v1: snippet is not finite"):
        detector.score_together(bags)


@given(rows=st.lists(st.integers(0, 12), max_size=20), most=st.integers(1, 20))
def test_batches_are_filled_in_order(rows: list[int], most: int) -> None:
    videos = list(range(len(rows)))
    batches = list(filled(videos, rows, most))
    assert [video for batch in batches for video in batch] == videos and [] not in batches
    assert all(len(b) == 1 or sum(rows[video] for video in b) <= most for b in batches)
    for batch, after in pairwise(batches):
        assert sum(rows[video] for video in [*batch, after[0]]) > most, "it had room for one more"
