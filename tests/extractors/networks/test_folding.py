"""First layers over blocks of pixels against torch's convolution, at any size and padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from tests.extractors.networks.test_fused import BF16, FP32, close, last, rounded
from vadpipe.extractors.networks import fused
from vadpipe.extractors.networks.folding import FORMS, Folding, in_blocks
from vadpipe.extractors.networks.fused import FusedConv

needs_fused = pytest.mark.skipif(
    not fused.is_available(FP32), reason="this torch has no fused operations"
)
sides = st.tuples(st.integers(0, 4), st.integers(0, 4))


@given(
    axes=st.sampled_from([2, 3]),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([FP32, BF16]),
    sizes=st.tuples(*[st.integers(1, 14)] * 3),
    kernel=st.tuples(*[st.sampled_from([1, 2, 3, 4, 5, 7, 8])] * 3),
    stride=st.tuples(*[st.integers(1, 4)] * 3),
    padding=st.tuples(sides, sides, sides),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60)
@torch.inference_mode()
def test_every_block_gives_torchs_convolution(
    axes: int,
    channels: int,
    dtype: torch.dtype,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    seed: int,
) -> None:
    """By torch's own convolution over the blocks: what the arrangement does, and nothing else."""
    sizes, kernel, stride, padding = sizes[:axes], kernel[:axes], stride[:axes], padding[:axes]
    if any(n + sum(p) < k for n, k, p in zip(sizes, kernel, padding, strict=True)):
        return
    torch.manual_seed(seed)
    convolve: Any = functional.conv2d if axes == 2 else functional.conv3d
    weight = torch.randn(5, channels, *kernel).to(dtype)
    x = last(torch.randn(2, channels, *sizes).to(dtype))
    around = functional.pad(x.float(), [side for pair in reversed(padding) for side in pair])
    expected = convolve(around, weight.float(), stride=stride)
    for block in {(*(1,) * (axes - 1), stride[-1]), stride}:
        folding = Folding(weight, stride, block)
        blocks, folded = folding(x, padding)
        found = convolve(blocks.float(), folded.float(), stride=folding.stride)
        close(found, expected, FP32)


@needs_fused
@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize(
    ("conv", "size", "forms"),
    [
        (nn.Conv3d(3, 8, 7, 2, (2, 3, 3)), (5, 23, 31), FORMS),
        (nn.Conv3d(3, 8, (5, 7, 7), (1, 2, 2), (2, 3, 3)), (4, 12, 13), FORMS),
        (nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4)), (4, 16, 20), ("plain", "folded")),
        (nn.Conv2d(3, 8, 16, 16), (35, 64), ("plain", "folded")),
        (nn.Conv2d(1, 8, 3, (1, 2), 1), (9, 9), ("plain", "pairs")),
        (nn.Conv2d(4, 8, 3, 1, 1), (9, 9), ("plain",)),
        (nn.Conv2d(3, 9, 3, 2, groups=3), (9, 9), ("plain",)),
        (nn.Conv2d(3, 9, 3, 2, dilation=2), (9, 9), ("plain",)),
        (nn.Conv3d(8, 8, 3, 2), (5, 9, 9), ("plain",)),
    ],
)
@torch.inference_mode()
def test_all_forms_of_a_layer_agree(
    conv: Any, size: tuple[int, ...], forms: tuple[str, ...], dtype: torch.dtype
) -> None:
    conv = rounded(conv, dtype)
    layer = FusedConv(conv.to(dtype))
    assert layer.forms == forms
    for width in (0, 1):  # an even and an odd one
        shape = (2, conv.in_channels, *size[:-1], size[-1] + width)
        x = last(torch.randn(shape).to(dtype))
        expected = conv.float()(x.float())
        plus = last(torch.randn_like(expected).to(dtype))
        for form in layer.forms:
            layer.form = form
            close(layer(x), expected, dtype)
            close(layer(x, relu=True), expected.relu(), dtype)
            if conv.groups == 1:  # torch has no sum with ReLU for such groups in bf16
                close(layer(x, plus, relu=True), (expected + plus.float()).relu(), dtype)


@needs_fused
@torch.inference_mode()
def test_a_layer_takes_paddings_in_turn() -> None:
    """As "same" padding has them: even sizes and odd ones need other kernels."""
    conv = rounded(nn.Conv2d(3, 4, 7, 2), FP32)
    layer = FusedConv(conv)
    for padding in ([(2, 3), (3, 3)], [(3, 3), (2, 3)], [(2, 3), (3, 3)], [(0, 0), (1, 0)]):
        x = last(torch.randn(1, 3, 12, 11))
        expected = conv(functional.pad(x, [*padding[1], *padding[0]]))
        for form in FORMS:
            layer.form = form
            close(layer(x, padding=padding), expected, FP32)


def test_blocks_of_pixels_by_hand() -> None:
    x = torch.arange(2 * 3 * 5.0).reshape(1, 2, 3, 5)
    found = in_blocks(x, (2, 2), (1, 0), (3, 3))
    expected = torch.zeros(1, 8, 3, 3)
    for row in range(3):
        for column in range(5):
            place = 2 * (2 * (row % 2) + column % 2)
            expected[0, place : place + 2, 1 + row // 2, column // 2] = x[0, :, row, column]
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(in_blocks(x, (2, 2), (1, 0), (2, 2)), expected[..., :2, :2])


def test_pixels_that_begin_anywhere_in_memory() -> None:
    """A part of a larger map may begin between two words."""
    memory = torch.randn(1 + 4 * 6 * 3).to(BF16)
    pixels = memory[1:].view(1, 4, 6, 3)
    x = pixels.movedim(-1, 1)
    assert torch.equal(
        in_blocks(x, (2, 2), (0, 0), (2, 3)),
        in_blocks(last(x.clone()), (2, 2), (0, 0), (2, 3)),
    )


@pytest.mark.parametrize(
    ("channels", "stride", "tiles", "expected"),
    [
        (3, 2, False, "pairs"),
        (3, 2, True, "folded"),
        (4, 2, False, "plain"),  # four channels are two pairs already
        (3, 4, False, "plain"),
        (3, 1, True, "plain"),
        (64, 2, True, "plain"),
    ],
)
def test_the_form_that_is_not_tried_out(
    channels: int, stride: int, tiles: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "has_tiles", lambda: tiles)
    conv = nn.Conv3d(channels, 8, 7, stride)
    assert FusedConv(conv).form == "plain", "in fp32"
    assert FusedConv(conv.to(BF16)).form == expected


def test_tiles_are_told_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert fused.has_tiles()
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert not fused.has_tiles()


def is_last(x: Tensor) -> bool:
    """Channels last in memory."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.is_contiguous(memory_format=formats[x.dim()])


@needs_fused
@torch.inference_mode()
def test_results_and_kernels_are_channels_last() -> None:
    layer = FusedConv(nn.Conv3d(3, 8, 3, 2).eval().requires_grad_(False))
    for form in layer.forms:
        layer.form = form
        assert is_last(layer(torch.randn(1, 3, 5, 6, 7)))
    blocks, kernel = layer._foldings["folded"](torch.randn(1, 3, 5, 6, 7), [(0, 0)] * 3)
    assert is_last(blocks) and is_last(kernel)
