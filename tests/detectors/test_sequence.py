"""Convolutions and batch norms over (b, S, C) against those of torch, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vadpipe.detectors.sequence import SequenceConv, SequenceNorm


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", [1, 2, 3, 5, 9])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 2), (3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_is_that_of_torch(
    length: int, kernel: int, dilation: int, bias: bool
) -> None:
    ours = SequenceConv(6, 4, kernel, dilation=dilation, bias=bias).double()
    padding = dilation if kernel == 3 else 0
    theirs = nn.Conv1d(6, 4, kernel, padding=padding, dilation=dilation, bias=bias).double()
    theirs.load_state_dict(ours.state_dict())
    x = drawn(3, length, 6).requires_grad_()
    first = x.detach().mT.clone().requires_grad_()
    found, expected = ours(x), theirs(first).mT
    assert torch.allclose(found, expected, atol=1e-12)
    weights = drawn(*found.shape, seed=1)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert x.grad is not None
    assert first.grad is not None
    assert torch.allclose(x.grad, first.grad.mT, atol=1e-12)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None, name
        assert other.grad is not None, name
        assert torch.allclose(mine.grad, other.grad, atol=1e-12), name


@pytest.mark.parametrize("bias", [True, False])
def test_bf16_sums_its_taps_in_fp32(bias: bool) -> None:
    torch.manual_seed(0)
    conv = SequenceConv(64, 8, 3, dilation=2, bias=bias)
    x = torch.randn(4, 9, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = conv(x)
    assert found.dtype == torch.bfloat16
    rounded = SequenceConv(64, 8, 3, dilation=2, bias=bias)
    rounded.load_state_dict({k: v.bfloat16().float() for k, v in conv.state_dict().items()})
    exact = rounded(x.bfloat16().float())
    # One rounding of each product, one of the sum, and one with the bias.
    assert ((found.float() - exact).abs() <= 2**-7 * (1 + exact.abs())).all()


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel is 2"):
        SequenceConv(4, 4, 2)


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_is_that_of_torch(training: bool) -> None:
    ours, theirs = SequenceNorm(5).double(), nn.BatchNorm1d(5).double()
    x = drawn(3, 7, 5) * 2 + 1
    for _ in range(2):
        theirs.train(training)
        expected = theirs(x.mT).mT
        assert torch.allclose(ours.train(training)(x), expected, atol=1e-12)
    for name, value in ours.state_dict().items():
        assert torch.allclose(value.double(), theirs.state_dict()[name].double()), name


def test_gradients_by_differences() -> None:
    """Also of the rows at both ends, for every dilation."""
    conv = SequenceConv(3, 2, 3, dilation=2).double()
    x = drawn(2, 5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: conv(value), (x,))
