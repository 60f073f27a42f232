"""Convolutions over grids of patches against those of torch, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vadpipe.detectors.grid_layers import GridConv, GridNorm


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


GRIDS = [(1, 1), (2, 3), (3, 5), (4, 7), (1, 6), (6, 4)]


@pytest.mark.parametrize(
    ("grid", "stride", "padding"),
    [
        (grid, stride, padding)
        for grid in GRIDS
        for stride in (1, 2)
        for padding in (0, 1)
        if min(grid) + 2 * padding >= 3  # the kernel fits
    ],
)
def test_a_convolution_is_that_of_torch(grid: tuple[int, int], stride: int, padding: int) -> None:
    ours = GridConv(5, 4, stride=stride, padding=padding).double()
    theirs = nn.Conv2d(5, 4, 3, stride=stride, padding=padding).double()
    theirs.load_state_dict(ours.state_dict())
    x = drawn(3, *grid, 5).requires_grad_()
    pictures = x.detach().permute(0, 3, 1, 2).clone().requires_grad_()
    found, expected = ours(x), theirs(pictures).permute(0, 2, 3, 1)
    assert torch.allclose(found, expected, atol=1e-12)
    weights = drawn(*found.shape, seed=1)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert x.grad is not None
    assert pictures.grad is not None
    assert torch.allclose(x.grad, pictures.grad.permute(0, 2, 3, 1), atol=1e-12)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None, name
        assert other.grad is not None, name
        assert torch.allclose(mine.grad, other.grad, atol=1e-11), name


@pytest.mark.parametrize(
    ("grid", "stride", "padding"), [((1, 1), 1, 1), ((3, 3), 1, 0), ((2, 2), 2, 1)]
)
def test_one_cell_of_one_snippet_leaves_the_layer_as_it_is(
    grid: tuple[int, int], stride: int, padding: int
) -> None:
    conv = GridConv(5, 4, stride=stride, padding=padding)
    before = {name: value.clone() for name, value in conv.state_dict().items()}
    x = torch.randn(1, *grid, 5)
    with torch.inference_mode():
        first, second = conv(x), conv(x)
    assert torch.equal(first, second)
    for name, value in conv.state_dict().items():
        assert torch.equal(value, before[name]), name
    expected = nn.functional.conv2d(
        x.permute(0, 3, 1, 2), conv.weight, conv.bias, stride, padding
    ).permute(0, 2, 3, 1)
    assert torch.allclose(first, expected, atol=1e-5)


def test_frozen_parts_get_no_gradient() -> None:
    conv = GridConv(3, 2, stride=1, padding=1)
    cells = torch.randn(2, 2, 3, 3)
    conv(cells).sum().backward()
    assert conv.weight.grad is not None
    conv.requires_grad_(False)
    conv.weight.grad = None
    cells.requires_grad_()
    conv(cells).sum().backward()
    assert conv.weight.grad is None
    assert cells.grad is not None


def test_bf16_sums_its_taps_in_fp32() -> None:
    """One rounding at the end: no worse than the convolution of torch on the same numbers."""
    torch.manual_seed(0)
    conv = GridConv(64, 8, stride=1, padding=1)
    x = torch.randn(16, 4, 7, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = conv(x)
    assert found.dtype == torch.bfloat16
    rounded = GridConv(64, 8, stride=1, padding=1)
    rounded.load_state_dict({k: v.bfloat16().float() for k, v in conv.state_dict().items()})
    exact = rounded(x.bfloat16().float())
    # One rounding of the sum, and one of each product.
    assert ((found.float() - exact).abs() <= 2**-7 * (1 + exact.abs())).all()
    conv.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        conv(x).float().square().sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_is_that_of_torch(training: bool) -> None:
    ours, theirs = GridNorm(6).double().train(training), nn.BatchNorm2d(6).double().train(training)
    x = drawn(4, 2, 3, 6) * 3 + 1
    expected = theirs(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert torch.allclose(ours(x), expected, atol=1e-12)
    for name, value in ours.state_dict().items():
        assert torch.allclose(value.double(), theirs.state_dict()[name].double()), name
