"""Two ways to the same numbers: a difference and a quotient, or one sum."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from vadpipe.extractors.device.normalise import Channels, Normalise
from vadpipe.extractors.networks import (
    clip_vit,
    i3d_r50,
    imagenet,
    inception_i3d,
    raft,
    video_swin,
    yolo,
)
from vadpipe.extractors.weights.cards import Weights

NETWORKS = (inception_i3d, i3d_r50, clip_vit, imagenet, video_swin, raft, yolo)
CARDS = [
    card
    for module in NETWORKS
    for value in vars(module).values()
    for card in (value if isinstance(value, tuple) else (value,))
    if isinstance(card, Weights)
]
STATISTICS = sorted({(card.mean, card.std) for card in CARDS})
SHADES = torch.arange(256, dtype=torch.uint8).repeat_interleave(3)[None]  # (1, 256 * 3)


def test_the_cards_are_there() -> None:
    assert len(STATISTICS) >= 5 and len(CARDS) >= 10


def sums_rounded_once(mean: Channels, std: Channels) -> Tensor:
    """`one_pass` where the product is not rounded before the sum, as a GPU may do it: float32."""
    found = []
    for shade in range(256):
        for m, s in zip(mean, std, strict=True):
            factor = float(torch.tensor(1 / s).float())
            offset = float(torch.tensor(-m / s).float())
            found.append(float(Fraction(factor) * shade + Fraction(offset)))
    return torch.tensor(found, dtype=torch.float64).float()[None]


@pytest.mark.parametrize(("mean", "std"), STATISTICS)
def test_one_pass_has_the_same_numbers_for_every_shade(mean: Channels, std: Channels) -> None:
    """In bf16 and fp16 in every bit, rounded between product and sum or not."""
    exact = Normalise(mean, std, torch.float32, "cpu").two_passes(SHADES)
    once = sums_rounded_once(mean, std)
    for found in (Normalise(mean, std, torch.float32, "cpu").one_pass(SHADES), once):
        assert float((found - exact).abs().max()) <= 2.4e-7
    for dtype in (torch.bfloat16, torch.float16):
        normalise = Normalise(mean, std, dtype, "cpu")
        assert torch.equal(normalise.two_passes(SHADES), exact.to(dtype))
        assert torch.equal(normalise.one_pass(SHADES), exact.to(dtype))
        assert torch.equal(once.to(dtype), exact.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_both_ways_keep_rows_apart(dtype: torch.dtype) -> None:
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    rows = torch.randint(0, 256, (2, 3, 4, 5 * 3), dtype=torch.uint8)
    expected = (rows.view(2, 3, 4, 5, 3).float() - torch.tensor(mean)) / torch.tensor(std)
    normalise = Normalise(mean, std, dtype, "cpu")
    for found in (normalise.one_pass(rows), normalise.two_passes(rows)):
        assert found.dtype == dtype and found.shape == rows.shape
        tolerance = 3e-7 if dtype == torch.float32 else 0.0
        wanted = expected.to(dtype).view(rows.shape)
        torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("mean", "std"), STATISTICS)
def test_a_gpu_has_the_bits_of_a_cpu(mean: Channels, std: Channels) -> None:
    videos = SHADES.view(1, 1, 1, 256, 3)
    for dtype, tolerance in ((torch.float32, 3e-7), (torch.bfloat16, 0.0), (torch.float16, 0.0)):
        there = Normalise(mean, std, dtype, "cuda:0")(videos.cuda()).cpu()
        here = Normalise(mean, std, dtype, "cpu")(videos)
        torch.testing.assert_close(there, here, rtol=0, atol=tolerance)
