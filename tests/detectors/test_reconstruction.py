from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vadpipe.detectors.base import Track
from vadpipe.detectors.reconstruction import (
    Border,
    Measure,
    min_max,
    place,
    psnr,
    reconstruction_errors,
    scaled_flow,
    scaled_frames,
)


def test_psnr_by_hand_and_for_a_perfect_reconstruction() -> None:
    errors = [0.5, 1e-3, 2.0, 0.0]
    expected = [10 * math.log10(1 / max(e, 1e-10)) for e in errors]
    assert psnr(torch.tensor(errors, dtype=torch.float64)).tolist() == pytest.approx(expected)
    assert float(psnr(torch.tensor(0.01), 2.0)) == pytest.approx(10 * math.log10(4 / 0.01))


def test_min_max_by_hand_and_for_constant_and_empty_curves() -> None:
    assert min_max(np.array([3.0, 1.0, 2.0])).tolist() == [1.0, 0.0, 0.5]
    assert min_max(np.full(4, 7.0)).tolist() == [0.0] * 4
    assert min_max(np.zeros(0)).tolist() == []


def test_frames_are_scaled_to_the_range_of_tanh() -> None:
    frames = torch.tensor([[[[[0, 0, 255]]]]], dtype=torch.uint8)  # one pixel
    scaled = scaled_frames(frames, 3)
    assert scaled.shape == (1, 3, 1, 1, 1)
    assert scaled.flatten().tolist() == pytest.approx([-1, -1, 1])
    assert float(scaled_frames(frames, 1)) == pytest.approx(0.114 * 2 - 1, abs=1e-6)


def test_flow_is_cut_off_at_the_limit_and_a_rotation_keeps_its_magnitude() -> None:
    angle = torch.linspace(0, 2 * math.pi, 9)[:-1]
    flow = 5 * torch.stack([angle.cos(), angle.sin()], -1).reshape(1, 1, 2, 4, 2)
    scaled = scaled_flow(flow, 3, 20.0)
    assert scaled.shape == (1, 3, 1, 2, 4)
    assert scaled[:, 2].flatten().tolist() == pytest.approx([-0.5] * 8)  # 5 of [0, 20]
    turned = scaled_flow(torch.stack([-flow[..., 1], flow[..., 0]], -1), 3, 20.0)
    assert torch.allclose(turned[:, 0], -scaled[:, 1]) and torch.allclose(
        turned[:, 1], scaled[:, 0]
    )
    fast = scaled_flow(torch.tensor([[[[[-90.0, 0.0]]]]]), 3, 20.0).flatten()
    assert fast.tolist() == [-1.0, 0.0, 1.0]
    still = scaled_flow(torch.zeros(1, 1, 1, 1, 2), 3, 20.0).flatten()
    assert still.tolist() == [0.0, 0.0, -1.0]
    assert scaled_flow(flow, 2, 20.0).shape[1] == 2


@pytest.mark.parametrize("border", ["drop", "replicate"])
@pytest.mark.parametrize("stride", [1, 3, 4])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 21])
def test_every_scored_row_has_a_window_that_scores_it(n: int, stride: int, border: Border) -> None:
    length, scored = 8, 4
    placed = place(n, length, scored, stride, border)
    if border == "drop" and n >= length:
        assert placed.rows.tolist() == list(range(scored, n - length + scored + 1))
        assert placed.start.min() >= 0 and placed.start.max() + length <= n
    else:
        assert placed.rows.tolist() == list(range(n))
    at = placed.rows - placed.start
    assert (at >= 0).all() and (at < length).all()
    if stride == 1:
        assert (at == scored).all()
    else:  # the rows in the middle, but for the last window, which ends with the video
        middle = placed.start < placed.start.max()
        assert (np.abs(at[middle] - scored) <= stride // 2).all()
        assert len(np.unique(placed.start)) <= math.ceil(len(placed.rows) / stride) + 1


def test_errors_are_those_of_plain_loops() -> None:
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (11, 4, 6, 3), np.uint8)
    track = Track(frames, np.arange(11), np.arange(1, 12))
    length, scored = 8, 4

    def network(x: torch.Tensor) -> torch.Tensor:  # the mean over the window
        return x.mean(2, keepdim=True).expand_as(x)

    for border, stride in (("drop", 1), ("replicate", 1), ("replicate", 4)):
        placed = place(11, length, scored, stride, border)  # type: ignore[arg-type]
        measure = Measure(cells=(2, 2))
        found = reconstruction_errors(
            *(track, placed, length, network, lambda w: scaled_frames(w, 3), measure),
            torch.device("cpu"),
        )
        values = frames / 127.5 - 1
        for i, (row, start) in enumerate(zip(placed.rows, placed.start, strict=True)):
            window = np.stack([values[min(max(t, 0), 10)] for t in range(start, start + length)])
            squared = ((window.mean(0) - values[row]) ** 2).mean(-1)
            assert found.values[i] == pytest.approx(squared.mean(), rel=1e-5)
            assert found.maps[i, 1, 0] == pytest.approx(squared[2:, :3].mean(), rel=1e-5)


def test_reductions() -> None:
    errors = torch.zeros(1, 5, 6)
    errors[0, 4, 5] = 3.0
    errors[0, :2, :2] = 1.0
    assert float(Measure().reduced(errors)) == pytest.approx(7 / 30)
    assert float(Measure(reduction="max").reduced(errors)) == 3.0
    assert float(Measure(reduction="block", block=2).reduced(errors)) == 1.5  # at the border
    assert float(Measure(reduction="block", block=9).reduced(errors)) > 0
