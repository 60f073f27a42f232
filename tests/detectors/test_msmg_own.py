"""The encoder's own objective in MSMG: alone, with the tasks, and its own error as a score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.bags import Bags
from tests.clips_of_frames import frame_bag, squares
from vadpipe.detectors.base import Bag, DetectorError
from vadpipe.detectors.msmg import MSMG
from vadpipe.detectors.msmg_network import MSMGNetwork
from vadpipe.detectors.msmg_own import own_estimator
from vadpipe.detectors.msmg_placing import window_starts
from vadpipe.detectors.msmg_scores import Scorer
from vadpipe.detectors.msmg_settings import MSMGConfig
from vadpipe.detectors.reconstruction import min_max
from vadpipe.extractors.networks.frame_estimation import FrameEstimator

pytestmark = pytest.mark.usefixtures("one_thread")

TINY: dict[str, Any] = {
    **{"length": 6, "encoder": "unet", "encoder_width": 3, "own_weight": 0.5, "steps": 2},
    **{"batch_size": 2, "validation_pairs": 2, "cells": (2, 2)},
}
ALONE: dict[str, Any] = {"weights": (0, 0, 0), "own_weight": 1.0}


def made(**changes: Any) -> MSMG:
    return MSMG(MSMGConfig.model_validate({**TINY, **changes}))


def fitted(**changes: Any) -> MSMG:
    detector = made(**changes)
    detector.fit(squares(), device="cpu", seed=0)
    return detector


def estimator_of(detector: MSMG) -> FrameEstimator:
    assert detector.trained is not None
    network = detector.trained["network"].eval()
    assert isinstance(network, MSMGNetwork)
    return own_estimator(network)


def windows_of(bag: Bag, estimator: FrameEstimator) -> torch.Tensor:
    """The window of each frame, with the ends repeated: (n, 3, length, H, W)."""
    frames = torch.from_numpy(bag.tracks["pixels"].rows()).float() / 255
    n, found = len(frames), []
    for t in range(n):
        first = t - estimator.scored
        at = [min(max(i, 0), n - 1) for i in range(first, first + estimator.length)]
        found.append(frames[at].permute(3, 0, 1, 2))
    return torch.stack(found)


@pytest.mark.parametrize("encoder", ["unet", "memae", "mnad", "multipath_gru"])
def test_the_objective_alone_trains_and_scores(encoder: str) -> None:
    detector = fitted(**ALONE, encoder=encoder)
    bag = squares()[0]
    scores = detector.score(bag)
    assert tuple(scores.columns) == detector.columns
    assert detector.columns[:4] == ("score", "paper", "own", "own_paper")
    estimator = estimator_of(detector)
    with torch.no_grad():
        said = estimator.estimate(windows_of(bag, estimator))
    by_hand = said.squared.mean((1, 2)).numpy()
    middle = slice(3, len(by_hand) - 2)  # windows of six frames score their fourth
    assert scores.columns["own"][middle] == pytest.approx(by_hand[middle], rel=1e-3)
    assert np.array_equal(scores.columns["score"], scores.columns["own"])
    curve = min_max(10 * np.log10(scores.columns["own"] + 1e-8))
    if said.distance is not None:  # MNAD: lambda is 0.6
        distance = scores.columns["own_distance"]
        assert distance[middle] == pytest.approx(said.distance.numpy()[middle], rel=1e-3)
        curve = 0.6 * curve + 0.4 * min_max(distance)
    assert scores.columns["paper"] == pytest.approx(curve)
    error = scores.maps["own_error"]
    assert error.mean((1, 2)) == pytest.approx(scores.columns["own"], rel=1e-2)
    assert np.array_equal(detector.score(bag).columns["own"], scores.columns["own"])


def test_the_joint_loss_is_the_weighted_sum() -> None:
    detector = made(weights=(1.0, 2.0, 0.5))
    log = detector.fit(squares(), device="cpu", seed=0)
    for row in log.rows:
        r = {name: float(value) for name, value in row.items() if name != "stage"}
        assert r["own/total"] == pytest.approx(r["own/intensity"] + r["own/gradient"])
        tasks = r["l1"] + 2 * r["l2"] + 0.5 * r["l3"]
        assert r["total"] == pytest.approx(tasks + 0.5 * r["own/total"], rel=1e-5)
    assert "validation/own/total" in log.summary
    assert detector.config.scored == "feature" and detector.config.readings[-1] == "own"


def test_the_estimation_task_alone_joins_and_the_own_error_can_be_the_score() -> None:
    detector = fitted(weights=(0, 0, 1), encoder="mnad", reading="own")
    scores = detector.score(squares()[0])
    assert np.array_equal(scores.columns["score"], scores.columns["own"])
    assert {"feature", "own_distance"} <= set(scores.columns)
    assert set(scores.maps) == {"salience", "own_error"} == set(detector.maps)
    again = made(weights=(0, 0, 1), encoder="mnad", reading="own")
    again.load_state_dict(detector.state_dict())
    other = again.score(squares()[0])
    assert all(np.array_equal(scores.columns[n], other.columns[n]) for n in scores.columns)


def test_bad_input_is_named() -> None:
    with pytest.raises(DetectorError, match="no video has 16 rows"):
        short = Bags([frame_bag("s", {"pixels": squares()[0].tracks["pixels"].rows(0, 12)})])
        made(**ALONE, encoder="memae").fit(short, device="cpu", seed=0)
    with pytest.raises(DetectorError, match="multiples of 16, not 8x8"):
        made(encoder="multipath_gru", side=8).fit(squares(), device="cpu", seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "cnn3d", "encoder_width": None}, "cnn3d has no objective of its own"),
        ({"encoder": "cnn3d", "own_weight": 0}, "cnn3d has no free width"),
        ({"encoder": "memae", "encoder_width": 4}, "a width is a multiple of 3"),
        ({"own_weight": 0, "reading": "own"}, "reading own needs"),
        ({"own_weight": 0, "weights": (0, 0, 0)}, "all weights are 0"),
        ({"norms": "frozen"}, "unet has none"),
        ({"start": "kinetics"}, "unet has no pretrained weights"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        made(**settings)


def test_a_fit_starts_from_a_model() -> None:
    first = fitted(**ALONE)
    begun = made(**ALONE, steps=1, lr=1e-9)
    begun.start = first.state_dict()
    begun.fit(squares(), device="cpu", seed=3)
    name = "network.network.encoder.encoder.levels.0.0.weight"
    assert np.allclose(begun.state_dict()[name], first.state_dict()[name], atol=1e-5)
    wider = made(**ALONE, encoder_width=4)
    wider.start = first.state_dict()
    with pytest.raises(DetectorError, match="the model to start from has another network"):
        wider.fit(squares(), device="cpu", seed=3)


@pytest.mark.parametrize("encoder", ["unet", "mnad", "multipath_gru"])
@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_windows_that_share_computing_score_the_same(
    encoder: str, gain: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = made(encoder=encoder, motion_gain=gain, decoder="frozen", decoder_steps=1)
    bag = squares()[0]
    detector.fit(squares(), device="cpu", seed=0)
    assert detector.trained is not None
    shared = Scorer(detector.trained, detector.config)
    alone = Scorer(detector.trained, detector.config, shares=False)
    track = bag.tracks["pixels"]
    starts = window_starts(len(track), detector.config.length, 1)
    calls: list[str] = []
    kind = type(shared.clips)
    gathered = kind.gathered
    monkeypatch.setattr(
        kind, "gathered", lambda *given: (calls.append("gathered"), gathered(*given))[1]
    )
    expected, found = alone.windows(track, starts, -1), shared.windows(track, starts, -1)
    # a clip's own mean changes every frame of it: nothing is shared with motion enlarged
    assert bool(calls) == (gain == 1)
    assert set(found.values) == {"feature", "rgb", "continuity", "localisation", "own"} | (
        {"own_distance"} if encoder == "mnad" else set()
    )
    for name, values in expected.values.items():
        assert found.values[name] == pytest.approx(values, abs=1e-5), name
    for name, maps in expected.maps.items():
        assert found.maps[name] == pytest.approx(maps, rel=1e-3, abs=1e-5), name
