"""Mixed patches of flow: an oracle, bounds of what is drawn, equal numbers in numpy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from vadpipe.detectors.base import DetectorError
from vadpipe.detectors.flow_mixup import FlowMixup, Mix, draw_mix, mix_flow

SHAPE = (4, 24, 32, 3)


def window(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def drawn(seed: int, **settings: float) -> Mix:
    return draw_mix(np.random.default_rng(seed), *SHAPE[:3], FlowMixup.model_validate(settings))


def by_hand(flow: np.ndarray, other: np.ndarray, mix: Mix) -> np.ndarray:
    """Value by value, from the formula."""
    out = flow.copy()
    for t in range(SHAPE[0]):
        for y in range(mix.height):
            for x in range(mix.width):
                here = (t, mix.top[t] + y, mix.left[t] + x)
                there = (t, mix.other_top + y, mix.other_left + x)
                out[here] = mix.weight * flow[here] + (1 - mix.weight) * other[there]
    return out


@pytest.mark.parametrize("seed", range(5))
def test_patches_are_mixed_by_the_formula_and_nothing_else_changes(seed: int) -> None:
    flow, other, mix = window(0), window(1), drawn(seed)
    mixed = mix_flow(flow, other, mix)
    np.testing.assert_allclose(mixed, by_hand(flow, other, mix), rtol=1e-6)
    inside = mix.mask(*SHAPE[1:3])
    assert np.array_equal(mixed[~inside], flow[~inside]), "bit-equal outside"
    assert (mixed[inside] != flow[inside]).any()
    assert np.array_equal(flow, window(0)), "the window itself is not changed"


def test_torch_computes_what_numpy_computes() -> None:
    flow, other, mix = window(0), window(1), drawn(2)
    tensors = mix_flow(torch.from_numpy(flow), torch.from_numpy(other), mix)
    assert np.array_equal(tensors.numpy(), mix_flow(flow, other, mix))


def test_the_draw_decides_and_stays_in_the_frame() -> None:
    mixes = [drawn(seed) for seed in range(300)]
    for mix in mixes:
        assert 1 <= mix.height <= 12 and 1 <= mix.width <= 16, "half of a side at most"
        assert mix.top.min() >= 0 and mix.left.min() >= 0
        assert (mix.top + mix.height).max() <= 24 and (mix.left + mix.width).max() <= 32
        assert np.ptp(mix.top) <= 20 and 0 <= mix.weight <= 1
    same, again = drawn(7), drawn(7)
    assert np.array_equal(same.top, again.top) and same.weight == again.weight
    assert len({mix.weight for mix in mixes}) == len(mixes)
    centre = np.mean([mix.top.mean() + mix.height / 2 for mix in mixes])
    assert abs(centre - 12) < 1, "no part of the frame is preferred"
    # Beta(0.4, 0.4): mean 1/2, variance 1 / (4 * 1.8)
    weights = np.array([mix.weight for mix in mixes])
    assert abs(weights.mean() - 0.5) < 0.07 and abs(weights.var() - 1 / 7.2) < 0.02


def test_without_jitter_the_patch_stays_where_it_is() -> None:
    for seed in range(20):
        mix = drawn(seed, jitter=0)
        assert np.ptp(mix.top) == np.ptp(mix.left) == 0


def test_flow_mixed_with_itself_at_the_same_place_is_the_same() -> None:
    flow, mix = window(0), drawn(3, jitter=0)
    still = Mix(mix.top, mix.left, mix.top[0], mix.left[0], mix.height, mix.width, mix.weight)
    np.testing.assert_allclose(mix_flow(flow, flow, still), flow, rtol=1e-5, atol=1e-6)


def test_a_frame_smaller_than_a_patch_is_mixed_as_a_whole_at_most() -> None:
    mix = draw_mix(np.random.default_rng(0), 2, 4, 6, FlowMixup())
    assert mix.height <= 4 and mix.width <= 6


def test_windows_that_do_not_fit_are_refused() -> None:
    flow, mix = window(0), drawn(0)
    with pytest.raises(DetectorError, match="the same length and size"):
        mix_flow(flow, flow[:2], mix)
    with pytest.raises(DetectorError, match="drawn for another window"):
        mix_flow(flow[:2], flow[:2], mix)
    with pytest.raises(DetectorError, match="drawn for another window"):
        small = flow[:, :3, :3]
        mix_flow(small, small, Mix(mix.top, mix.left, 0, 0, 4, 4, 0.5))
    with pytest.raises(ValidationError):
        FlowMixup(alpha=0)
