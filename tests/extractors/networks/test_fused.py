"""Fused layers against torch's own, in both precisions and for any shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from vadpipe.extractors.device.inference import prepare
from vadpipe.extractors.networks import fused
from vadpipe.extractors.networks.fused import (
    FEW_POSITIONS,
    ORDERS,
    FusedConv,
    FusedLinear,
    fuse,
    rectified,
)

FP32, BF16 = torch.float32, torch.bfloat16
pytestmark = pytest.mark.skipif(
    not fused.is_available(FP32), reason="this torch has no fused operations"
)


def last(x: Tensor) -> Tensor:
    """Channels last in memory."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=formats[x.dim()])


def rounded(module: Any, dtype: torch.dtype) -> Any:
    """A module whose weights are exact in `dtype`."""
    module = module.eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype).float()
    return module


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Equal to the last bits of the results (fp32 sums of equal products)."""
    assert found.dtype == dtype and found.shape == expected.shape
    scale = float(expected.abs().max()) + 1e-6
    error = float((found.float() - expected).abs().max())
    assert error < scale * (1e-5 if dtype == FP32 else 2**-8)


@settings(max_examples=60, deadline=None)
@given(
    axes=st.sampled_from([2, 3]),
    dtype=st.sampled_from([FP32, BF16]),
    channels=st.sampled_from([(1, 2), (3, 8), (4, 4), (16, 24)]),
    kernel=st.sampled_from([1, 2, 3, 7]),
    stride=st.sampled_from([1, 2]),
    padding=st.integers(0, 3),
    sizes=st.tuples(*[st.integers(7, 12)] * 3),
    added=st.booleans(),
    seed=st.integers(0, 2**16),
)
@torch.inference_mode()
def test_a_fused_convolution_is_torchs(
    axes: int,
    dtype: torch.dtype,
    channels: tuple[int, int],
    kernel: int,
    stride: int,
    padding: int,
    sizes: tuple[int, ...],
    added: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    kind: Any = nn.Conv2d if axes == 2 else nn.Conv3d
    conv = rounded(kind(*channels, kernel, stride, min(padding, kernel - 1)), dtype)
    x = last(torch.randn(2, channels[0], *sizes[:axes]).to(dtype))
    expected = conv(x.float())
    close(FusedConv(conv.to(dtype))(x), expected, dtype)
    plus = last(torch.randn_like(expected).to(dtype)) if added else None
    total = expected if plus is None else expected + plus.float()
    layer = FusedConv(conv.to(dtype))
    found = rectified(layer, nn.Identity(), x, plus)
    close(found, total.relu(), dtype)
    format_ = torch.channels_last if axes == 2 else torch.channels_last_3d
    assert found.is_contiguous(memory_format=format_)


@torch.inference_mode()
def test_kept_orders_are_few_and_change_no_result() -> None:
    conv = rounded(nn.Conv3d(8, 16, 3, padding=1), FP32)
    layer = FusedConv(conv)
    for size in (4, 5, 4, 6, 7, 4, 4):
        x = last(torch.randn(2, 8, 3, size, size))
        close(layer(x), conv(x), FP32)
        assert any(key[1:] == tuple(x.shape) for key in layer._ordered)
        assert len(layer._ordered) <= ORDERS
    side = int(FEW_POSITIONS**0.5) + 1
    x = last(torch.randn(1, 8, 1, side, side))
    close(layer(x), conv(x), FP32)
    assert len(layer._ordered) <= ORDERS
    assert not any(key[1:] == tuple(x.shape) for key in layer._ordered), "large maps gain nothing"


@pytest.mark.parametrize("fusing", [False, True])
@torch.inference_mode()
def test_the_sides_of_an_axis_may_differ(fusing: bool) -> None:
    conv = rounded(nn.Conv3d(8, 4, (2, 3, 4)), FP32)
    x = last(torch.randn(1, 8, 3, 5, 6))
    expected = conv(functional.pad(x, [1, 2, 1, 1, 0, 1])).relu()
    layer = FusedConv(conv) if fusing else conv
    sides = [(0, 1), (1, 1), (1, 2)]
    close(rectified(layer, nn.Identity(), x, padding=sides), expected, FP32)


@torch.inference_mode()
def test_a_fused_layer_adds_to_a_copy() -> None:
    """What is added may be read again by others."""
    layer = FusedConv(rounded(nn.Conv3d(4, 4, 1), FP32))
    x, plus = last(torch.randn(1, 4, 2, 3, 3)), last(torch.randn(1, 4, 2, 3, 3))
    before = plus.clone()
    rectified(layer, nn.Identity(), x, plus)
    assert torch.equal(plus, before)


@pytest.mark.parametrize("fusing", [False, True])
@torch.inference_mode()
def test_a_norm_that_is_left_still_counts(fusing: bool) -> None:
    conv, norm = rounded(nn.Conv3d(3, 4, 3), FP32), nn.BatchNorm3d(4).eval()
    assert norm.running_mean is not None
    norm.running_mean.fill_(0.25)
    x = last(torch.randn(1, 3, 5, 6, 7))
    plus = last(torch.randn(1, 4, 5, 6, 7))
    expected = (norm(functional.conv3d(x, conv.weight, conv.bias, padding=1)) + plus).relu()
    layer = FusedConv(conv) if fusing else conv
    close(rectified(layer, norm, x, plus, padding=[(1, 1)] * 3), expected, FP32)


def test_gradients_pass_where_nothing_is_fused() -> None:
    """Networks that are trained use the same function."""
    conv, norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    x = torch.randn(2, 2, 6, 6, requires_grad=True)
    rectified(conv, norm, x, torch.randn(2, 3, 4, 4)).sum().backward()
    assert x.grad is not None and conv.weight.grad is not None


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("rows", [1, 3, 50])
@torch.inference_mode()
def test_a_fused_linear_layer_is_torchs(dtype: torch.dtype, rows: int) -> None:
    for bias in (True, False):
        linear = rounded(nn.Linear(24, 40, bias=bias), dtype)
        x = torch.randn(2, rows, 24).to(dtype)
        layer = FusedLinear(linear.to(dtype))
        expected = linear.float()(x.float())
        close(layer(x), expected, dtype)
        close(layer(x, silu=True), functional.silu(expected), dtype)


class Network(nn.Module):
    """Layers of all kinds; the classifier is read by others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3)
        self.same = nn.Conv2d(3, 4, 3, padding="same")
        self.mirrored = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
        self.linear = nn.Sequential(nn.Linear(4, 4))
        self.classifier = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.classifier(self.linear(self.conv(x).mean((2, 3, 4))))
        return found


@torch.inference_mode()
def test_what_is_fused_in_a_network() -> None:
    network = rounded(Network(), FP32)
    x = last(torch.randn(2, 3, 4, 5, 6))
    expected = network(x)
    fuse(network)
    kinds = {name: type(module).__name__ for name, module in network.named_children()}
    assert kinds == {
        "conv": "FusedConv",
        "same": "Conv2d",
        "mirrored": "Conv2d",
        "linear": "Sequential",
        "classifier": "Linear",
    }
    assert isinstance(network.linear[0], FusedLinear)
    close(network(x), expected, FP32)


@pytest.mark.parametrize(
    ("fusing", "broken", "expected"),
    [(True, False, FusedConv), (False, False, nn.Conv3d), (True, True, nn.Conv3d)],
)
def test_prepare_fuses_on_a_cpu_where_it_can(
    fusing: bool, broken: bool, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for torch.compile, and not with a torch whose operations are other ones."""
    if broken:

        def changed(self: FusedConv, *given: object, **more: object) -> Tensor:
            raise TypeError("takes other arguments")

        monkeypatch.setattr(FusedConv, "forward", changed)
        fused.is_available.cache_clear()
    network: Any = prepare(Network(), "fp32", "cpu", fused=fusing)
    fused.is_available.cache_clear()
    assert isinstance(network.conv, expected)


class SameConv(nn.Conv2d):
    """Pads in `forward` as far as the input needs, like the first layer of EfficientNet in timm."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / 2), ceil(W / 2))."""
        rows, columns = (max(0, -(-side // 2) * 2 + 1 - side) for side in x.shape[-2:])
        return super().forward(functional.pad(x, [0, columns, 0, rows]))


class Halved(nn.Linear):
    """A linear layer with another meaning."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) -> (B, C')."""
        return super().forward(x) / 2


@pytest.mark.parametrize("side", [2, 7, 8])
def test_layers_with_a_forward_of_their_own_stay(side: int) -> None:
    network = nn.Sequential(
        SameConv(3, 4, 3, stride=2),
        nn.Conv2d(4, 4, 1),
        nn.Flatten(),
        nn.LazyLinear(6),
        Halved(6, 2),
    ).eval()
    x = torch.rand(2, 3, side, side)
    with torch.inference_mode():
        expected = network(x)
        fuse(network)
        close(network(x), expected, FP32)
    kinds = [type(layer) for layer in network]
    assert kinds == [SameConv, FusedConv, nn.Flatten, FusedLinear, Halved]
