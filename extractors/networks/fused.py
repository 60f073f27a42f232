"""Convolutions and linear layers for inference on a CPU, with what follows them in the same pass.

oneDNN applies a sum and a ReLU to each block of results while it is in the cache of the processor.
As passes of their own they read and write a whole map each. torch offers this by operations of
`torch.ops.mkldnn`, which `torch.compile` uses too; where they are missing, layers stay as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

# Weights are kept in oneDNN's own order for maps of so few positions at most: on larger ones the
# time to reorder them is a small part, and so many weights would be kept twice.
FEW_POSITIONS = 4096
ORDERS = 2  # shapes of inputs for which a layer keeps its weights: full batches, and the last one
PAIRED_CHANNELS = 4  # first layers with so few channels at most take pixels in pairs


@cache
def is_available(dtype: torch.dtype) -> bool:
    """Whether this torch and this processor have the fused operations, by a small trial.

    They are private, so a version of torch may lack them, or take other arguments.
    """
    conv, linear, x = nn.Conv3d(2, 2, 1), nn.Linear(2, 2), torch.ones(1, 2, 1, 1, 1)
    try:
        with torch.inference_mode():
            x = x.to(dtype)
            FusedConv(conv.to(dtype=dtype))(x, x, relu=True)
            FusedLinear(linear.to(dtype=dtype))(x.flatten(1), silu=True)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


def fuse(network: nn.Module) -> None:
    """Replace convolutions and linear layers by fused ones, in place.

    Args:
        network:
            For inference: evaluation mode, on the CPU, in fp32 or bf16, its batch norms folded.
            What its attribute `classifier` names keeps its weights, for they are read; so do
            linear layers of the names in its attribute `read_layers`.
    """
    kept = getattr(network, "classifier", None)
    read = getattr(network, "read_layers", ())
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if child is kept:
                continue
            # not isinstance: a derived layer may pad in its own way, as timm's "same" does
            if type(child) is nn.Conv2d or type(child) is nn.Conv3d:
                if isinstance(child.padding, tuple) and child.padding_mode == "zeros":
                    setattr(module, name, FusedConv(child))
            elif type(child) is nn.Linear and name not in read:
                setattr(module, name, FusedLinear(child))


def rectified(
    conv: Convolution,
    norm: nn.Module,
    x: Tensor,
    plus: Tensor | None = None,
    padding: Sequence[int] | None = None,
) -> Tensor:
    """relu(norm(conv(x)) + plus), in one pass where the convolution is fused and the norm folded.

    Args:
        conv:
            Fused or not.
        norm:
            What follows it.
        x:
            (B, C, ...).
        plus:
            Of the shape of the result, or None.
        padding:
            Zeros on both sides of each axis; None takes those of the convolution.
    """
    if isinstance(conv, FusedConv):
        if isinstance(norm, nn.Identity):
            return cast(Tensor, conv(x, plus, padding, relu=True))
        y = conv(x, padding=padding)
    elif padding is None:
        y = conv(x)
    else:
        apply = functional.conv3d if x.dim() == 5 else functional.conv2d
        how = (conv.stride, list(padding), conv.dilation, conv.groups)
        y = apply(x, conv.weight, conv.bias, *how)
    y = norm(y)
    return functional.relu(y if plus is None else y.add_(plus), inplace=True)


class FusedConv(nn.Module):
    """A convolution of two or three axes whose sum and ReLU cost no pass of their own.

    In bf16 a first layer takes neighbouring pixels of a row as one, with the channels of both: the
    processor multiplies channels in pairs, so three of them cost as much as four. The sums are the
    same, with some zeros more.

    Args:
        conv: the convolution, in evaluation mode; its weights are shared.
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.kernel_size, self.stride = conv.kernel_size, conv.stride
        self.dilation, self.groups = conv.dilation, conv.groups
        self.padding = cast(tuple[int, ...], conv.padding)
        self.bias = None if conv.bias is None else conv.bias.detach()
        weight = conv.weight.detach()
        self.pairs = (
            weight.dtype == torch.bfloat16
            and conv.in_channels <= PAIRED_CHANNELS
            and conv.in_channels % 2 == 1
            and conv.groups == 1
            and conv.stride[-1] == 2
            and conv.dilation[-1] == 1
        )
        layout = torch.channels_last_3d if weight.dim() == 5 else torch.channels_last
        if self.pairs:
            weight = _of_pairs(weight)
        self.weight = weight.contiguous(memory_format=layout)
        self._ordered: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    def forward(
        self,
        x: Tensor,
        plus: Tensor | None = None,
        padding: Sequence[int] | None = None,
        *,
        relu: bool = False,
    ) -> Tensor:
        """Convolve; then add `plus`, of the shape of the result; then the ReLU.

        (B, C, ...) -> (B, C', ...) in the precision of the weights, channels last in memory.
        """
        x = x.to(self.weight.dtype)
        padding = list(self.padding if padding is None else padding)
        stride = list(self.stride)
        if self.pairs:
            x, padding, stride = self._paired(x, padding), [0] * len(padding), [*stride[:-1], 1]
        how = (padding, stride, list(self.dilation), self.groups)
        weight = self._weight(x, how)
        if plus is None:
            after = "relu" if relu else "none"
            y = torch.ops.mkldnn._convolution_pointwise(x, weight, self.bias, *how, after, [], "")
        else:
            kind = "relu" if relu else None
            then: tuple[Any, ...] = ("add", 1.0, kind, [], "")
            fused = torch.ops.mkldnn._convolution_pointwise.binary
            y = fused(x, plus, weight, self.bias, *how, *then)
        return cast(Tensor, y)

    def _weight(self, x: Tensor, how: tuple[Any, ...]) -> Tensor:
        shape = tuple(x.shape)
        if shape[0] * prod(shape[2:]) > FEW_POSITIONS:
            return self.weight
        if (found := self._ordered.get(shape)) is None:
            if len(self._ordered) >= ORDERS:
                self._ordered.popitem(last=False)
            found = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *how, list(shape))
            self._ordered[shape] = found
        self._ordered.move_to_end(shape)
        return found

    def _paired(self, x: Tensor, padding: Sequence[int]) -> Tensor:
        """(B, C, ..., W) -> (B, 2 C, ..., W / 2), padded."""
        width = x.shape[-1]
        out = (width + 2 * padding[-1] - self.kernel_size[-1]) // 2 + 1
        last = 2 * (out - 1 + self.weight.shape[-1]) - width - padding[-1]
        around = [padding[-1], last, *(p for p in reversed(padding[:-1]) for _ in range(2))]
        x = functional.pad(x, around).movedim(1, -1)
        return x.reshape(*x.shape[:-2], x.shape[-2] // 2, -1).movedim(-1, 1)


def _of_pairs(weight: Tensor) -> Tensor:
    """(O, C, ..., K) -> (O, 2 C, ..., ceil(K / 2)): kernels over pairs of pixels."""
    weight = functional.pad(weight, [0, weight.shape[-1] % 2])
    weight = weight.reshape(*weight.shape[:-1], -1, 2).movedim(-1, 1)  # (O, 2, C, ..., K / 2)
    return weight.flatten(1, 2)


class FusedLinear(nn.Module):
    """A linear layer with its weights in oneDNN's own order, whose SiLU costs no pass of its own.

    Args:
        linear: the layer; its weights are copied.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, x: Tensor, *, silu: bool = False) -> Tensor:
        """Multiply, then the SiLU: (..., C) -> (..., C')."""
        kind = "swish" if silu else "none"
        return cast(
            Tensor,
            torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, kind, [], ""),
        )


Convolution = nn.Conv2d | nn.Conv3d | FusedConv
