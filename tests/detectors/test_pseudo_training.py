from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tests.bags import Bags
from tests.clips_of_frames import frame_bag
from vadpipe.detectors.pseudo_anomaly import PseudoAnomaly
from vadpipe.detectors.pseudo_settings import PseudoAnomalyConfig
from vadpipe.detectors.pseudo_training import distance, omega

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_distance_is_the_mean_of_each_window() -> None:
    out, target = torch.rand(2, 3, 2, 4, 4), torch.rand(2, 3, 2, 4, 4)
    expected = [float(((out[i] - target[i]) ** 2).sum()) / out[i].numel() for i in range(2)]
    assert distance({"out": out, "target": target}).tolist() == pytest.approx(expected)


def test_raw_indicators_rise_with_the_error() -> None:
    errors = np.array([0.001, 0.1])
    assert omega("spatial", errors).tolist() == pytest.approx([-30.0, -10.0])
    assert omega("temporal", errors).tolist() == [0.001, 0.1]


def bars(n: int, seed: int, *, upright: bool) -> NDArray[np.uint8]:
    """Pictures of three bars at drawn places: upright or lying, with equal sets of values."""
    random = np.random.default_rng(seed)
    frames = np.full((n, 12, 12), 60, np.uint8)
    for frame in frames:
        frame[random.permutation(12)[:3]] = 200
    return frames.swapaxes(1, 2) if upright else frames


def features(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What an encoder could see: the energy of edges in both directions, and noise."""
    values = frames.astype(np.float32) / 255
    edges = [np.abs(np.diff(values, axis=axis)).mean((1, 2)) for axis in (1, 2)]
    noise = np.random.default_rng(len(frames)).normal(size=(len(frames), 6)).astype(np.float32)
    return np.concatenate([np.stack(edges, 1), noise], 1)


def told_apart(normal: Any, odd: Any, new: Any) -> NDArray[np.float64]:
    """omega_3 of new features, after a training on two classes."""
    config = {"eta": (0, 0, 1), "semantic_steps": 60, "semantic_batch": 64, "lr": 0.01}
    detector = PseudoAnomaly(PseudoAnomalyConfig.model_validate(config))
    bag = frame_bag("v", {"frame": features(normal), "perturbed_frame": features(odd)})
    detector.fit(Bags([bag]), device="cpu", seed=0)
    return detector.score(frame_bag("new", {"frame": features(new)})).columns["omega_3"]


def test_the_discriminator_learns_what_low_level_statistics_do_not_show() -> None:
    normal, odd = bars(80, 0, upright=True), bars(80, 1, upright=False)
    # A linear probe on the mean and the variance of pixels has nothing to go by.
    low = [np.stack([v.mean((1, 2)), v.var((1, 2)).round(6)], 1) for v in (normal, odd)]
    assert np.array_equal(*low)
    label = np.repeat([0, 1], 80)
    probe = LogisticRegression().fit(np.concatenate(low), label)
    assert probe.score(np.concatenate(low), label) == 0.5
    new = np.concatenate([bars(40, 2, upright=True), bars(40, 3, upright=False)])
    found = told_apart(normal, odd, new)
    assert found[:40].max() < found[40:].min()
    swapped = told_apart(odd, normal, new)  # neither class is treated in a way of its own
    assert swapped[:40].min() > swapped[40:].max()
    assert np.abs(found + swapped - 1).mean() < 0.1


def test_equal_classes_cannot_be_told_apart() -> None:
    normal = bars(80, 0, upright=True)
    found = told_apart(normal, normal, np.concatenate([normal, bars(40, 9, upright=True)]))
    assert np.abs(found.mean() - 0.5) < 0.1
