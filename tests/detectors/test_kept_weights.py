"""Kept weights follow every change of the weight, and belong to one layer."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vadpipe.detectors.grid_layers import GridConv
from vadpipe.detectors.kept_weights import KeptLinear, KeptWeight, linear_rows
from vadpipe.detectors.sequence import SequenceConv

LAYERS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (lambda: SequenceConv(6, 4), (2, 5, 6)),
    (lambda: SequenceConv(6, 4, 3, dilation=2, bias=False), (2, 5, 6)),
    (lambda: GridConv(6, 4, stride=1, padding=1), (2, 3, 4, 6)),
    (lambda: KeptLinear(6, 4), (2, 5, 6)),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
@pytest.mark.parametrize("lowered", [False, True])
def test_scoring_is_the_forward_of_training(
    make: Callable[[], nn.Module], shape: tuple[int, ...], lowered: bool
) -> None:
    torch.manual_seed(0)
    layer, x = make(), torch.randn(shape)

    def both() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lowered):
            learnt = layer(x).detach()
            with torch.inference_mode():
                first, second = layer(x), layer(x)
        assert torch.equal(first, learnt)
        assert torch.equal(second, learnt)

    both()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(2)  # a step of an optimizer
    both()
    layer.load_state_dict(make().state_dict())
    both()
    layer.load_state_dict(make().state_dict(), assign=True)
    both()


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_a_copy_keeps_weights_of_its_own(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    layer, x = make(), torch.randn(shape)
    with torch.inference_mode():
        before = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        with torch.inference_mode():
            assert not other(x).any()
            assert torch.equal(layer(x), before)
    assert set(layer.state_dict()) <= {"weight", "bias"}


def test_a_weight_is_laid_out_once_and_never_in_training() -> None:
    weight, kept, calls = nn.Parameter(torch.randn(3, 2)), KeptWeight(), []

    def lay_out(given: Tensor) -> Tensor:
        calls.append(given.dtype)
        return given.T.contiguous()

    with torch.no_grad():
        for _ in range(3):
            assert kept.of(weight, torch.float32, lay_out).equal(weight.T)
    assert calls == [torch.float32]
    with torch.no_grad():
        kept.of(weight, torch.bfloat16, lay_out)
    assert calls == [torch.float32, torch.bfloat16]
    for _ in range(2):
        found = kept.of(weight, torch.float32, lay_out)
        assert found.requires_grad
    assert calls == [torch.float32, torch.bfloat16, torch.float32, torch.float32]


def test_rows_that_do_not_lie_one_after_the_other_are_one_product() -> None:
    x, weight, bias = torch.randn(5, 3, 6).double(), torch.randn(4, 6), torch.randn(4)
    turned = x.transpose(0, 1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        found = linear_rows(turned, weight.double(), bias.double())
    expected = torch.einsum("abc,fc->abf", turned, weight.double()) + bias.double()
    assert torch.allclose(found, expected, atol=1e-12)
    assert "aten::bmm" not in {event.key for event in profile.key_averages()}
