"""Losses of frames and stacks of frames, by hand."""

from __future__ import annotations

import pytest
import torch

from vadpipe.extractors.networks.frame_estimation import (
    gradient_loss,
    intensity_loss,
    squared_error,
    stack_before,
    stacks,
)


def test_losses_by_hand() -> None:
    torch.manual_seed(0)
    found, wanted = torch.rand(2, 3, 4, 5).double(), torch.rand(2, 3, 4, 5).double()
    intensity, down, right = [], [], []
    for b in range(2):
        for c in range(3):
            for i in range(4):
                for j in range(5):
                    f, w = found[b, c], wanted[b, c]
                    intensity.append(float(f[i, j] - w[i, j]) ** 2)
                    if i:
                        own, other = abs(f[i, j] - f[i - 1, j]), abs(w[i, j] - w[i - 1, j])
                        down.append(float(abs(own - other)))
                    if j:
                        own, other = abs(f[i, j] - f[i, j - 1]), abs(w[i, j] - w[i, j - 1])
                        right.append(float(abs(own - other)))
    assert float(intensity_loss(found, wanted)) == pytest.approx(sum(intensity) / len(intensity))
    by_hand = sum(down) / len(down) + sum(right) / len(right)
    assert float(gradient_loss(found, wanted)) == pytest.approx(by_hand)


def test_losses_of_equal_pictures_and_of_a_shift_in_brightness() -> None:
    picture = torch.rand(1, 3, 4, 4)
    assert gradient_loss(picture, picture) == intensity_loss(picture, picture) == 0
    assert float(gradient_loss(picture + 0.5, picture)) == pytest.approx(0, abs=1e-6)
    assert float(intensity_loss(picture + 0.5, picture)) == pytest.approx(0.25)


def test_gradients_of_the_losses() -> None:
    torch.manual_seed(0)
    found = torch.rand(1, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    wanted = torch.rand(1, 1, 3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: gradient_loss(x, wanted), (found,))
    assert torch.autograd.gradcheck(lambda x: intensity_loss(x, wanted), (found,))


def test_squared_error_is_in_the_scale_of_0_to_1() -> None:
    black, white = torch.full((1, 3, 2, 2), -1.0), torch.ones(1, 3, 2, 2)
    assert torch.equal(squared_error(white, black), torch.ones(1, 2, 2))


@pytest.mark.parametrize("length", [1, 3, 6])
def test_stacks_end_in_each_frame_and_repeat_the_first(length: int) -> None:
    clips = torch.arange(2 * 3 * length).view(2, 3, length, 1, 1)
    found = stacks(clips, 4)
    assert found.shape == (2, length, 12, 1, 1)
    for b in range(2):
        for t in range(length):
            by_hand = [
                clips[b, c, max(0, t - back), 0, 0] for back in (3, 2, 1, 0) for c in range(3)
            ]
            assert found[b, t, :, 0, 0].tolist() == [int(v) for v in by_hand]


def test_stack_before_is_the_stack_that_ends_one_frame_earlier() -> None:
    windows = torch.rand(2, 3, 5, 2, 2)
    assert torch.allclose(stack_before(windows), stacks(windows * 2 - 1, 4)[:, 3])
