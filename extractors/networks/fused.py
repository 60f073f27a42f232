"""Convolutions and linear layers for inference on a CPU, with what follows them in the same pass.

oneDNN applies a sum and a ReLU to each block of results while it is in the cache of the processor.
As passes of their own they read and write a whole map each. torch offers this by operations of
`torch.ops.mkldnn`, which `torch.compile` uses too; where they are missing, layers stay as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .folding import FORMS, Folding, Form, Sides, block_of, padded

# Weights are kept in oneDNN's own order for maps of so few positions at most: on larger ones the
# time to reorder them is a small part, and so many weights would be kept twice.
FEW_POSITIONS = 4096
ORDERS = 2  # shapes of inputs for which a layer keeps its weights: full batches, and the last one
FIRST_CHANNELS = 4  # layers of so few channels at most can take blocks of pixels


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
    padding: Sides | None = None,
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
            Zeros before and after each axis; None takes those of the convolution.
    """
    if isinstance(conv, FusedConv):
        if isinstance(norm, nn.Identity):
            return cast(Tensor, conv(x, plus, padding, relu=True))
        y = conv(x, padding=padding)
    elif padding is None:
        y = conv(x)
    else:
        apply = functional.conv3d if x.dim() == 5 else functional.conv2d
        x, even = _even(x, padding)
        how = (conv.stride, even, conv.dilation, conv.groups)
        y = apply(x, conv.weight, conv.bias, *how)
    y = norm(y)
    return functional.relu(y if plus is None else y.add_(plus), inplace=True)


def _even(x: Tensor, padding: Sides) -> tuple[Tensor, list[int]]:
    """An input, and the zeros that both sides of an axis get: it is padded if they differ."""
    if all(before == after for before, after in padding):
        return x, [before for before, _ in padding]
    return padded(x, padding), [0] * len(padding)


class FusedConv(nn.Module):
    """A convolution of two or three axes whose sum and ReLU cost no pass of their own.

    A first layer can take its pixels in several forms (`folding.py`). The sums are the same, with
    some zeros more; which is the fastest depends on the processor.

    Attributes:
        forms: the forms that this layer has; "plain" alone unless it is a first layer.
        form: the one that it uses, to be set to another one of them.

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
        layout = torch.channels_last_3d if weight.dim() == 5 else torch.channels_last
        self.weight = weight.contiguous(memory_format=layout)
        self._foldings = _foldings(conv, self.weight)
        self.forms: tuple[Form, ...] = ("plain", *self._foldings)
        self.form: Form = likely_form(conv, self.forms)
        self._ordered: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    def forward(
        self,
        x: Tensor,
        plus: Tensor | None = None,
        padding: Sides | None = None,
        *,
        relu: bool = False,
    ) -> Tensor:
        """Convolve; then add `plus`, of the shape of the result; then the ReLU.

        (B, C, ...) -> (B, C', ...) in the precision of the weights, channels last in memory.
        """
        x = x.to(self.weight.dtype)
        sides = [(p, p) for p in self.padding] if padding is None else padding
        folding = self._foldings.get(self.form)
        if folding is None:
            x, even = _even(x, sides)
            weight, stride = self.weight, list(self.stride)
        else:
            x, weight = folding(x, sides)
            even, stride = [0] * len(sides), folding.stride
        how = (even, stride, list(self.dilation), self.groups)
        weight = self._weight(weight, x, how)
        if plus is None:
            after = "relu" if relu else "none"
            y = torch.ops.mkldnn._convolution_pointwise(x, weight, self.bias, *how, after, [], "")
        else:
            kind = "relu" if relu else None
            then: tuple[Any, ...] = ("add", 1.0, kind, [], "")
            fused = torch.ops.mkldnn._convolution_pointwise.binary
            y = fused(x, plus, weight, self.bias, *how, *then)
        return cast(Tensor, y)

    def _weight(self, weight: Tensor, x: Tensor, how: tuple[Any, ...]) -> Tensor:
        shape = tuple(x.shape)
        if shape[0] * prod(shape[2:]) > FEW_POSITIONS:
            return weight
        key = (id(weight), *shape)  # a layer has few weights, and keeps them
        if (found := self._ordered.get(key)) is None:
            if len(self._ordered) >= ORDERS:
                self._ordered.popitem(last=False)
            found = torch.ops.mkldnn._reorder_convolution_weight(weight, *how, list(shape))
            self._ordered[key] = found
        self._ordered.move_to_end(key)
        return found


def _foldings(conv: nn.Conv2d | nn.Conv3d, weight: Tensor) -> dict[Form, Folding]:
    """The forms of a layer besides "plain"; none unless it is a first one with strides."""
    if conv.in_channels > FIRST_CHANNELS or conv.groups > 1 or max(conv.dilation) > 1:
        return {}
    blocks: dict[tuple[int, ...], Form] = {block_of("plain", conv.stride): "plain"}
    for form in FORMS:  # two forms with the same blocks are one
        blocks.setdefault(block_of(form, conv.stride), form)
    return {
        form: Folding(weight, conv.stride, block)
        for block, form in blocks.items()
        if form != "plain"
    }


def likely_form(conv: nn.Conv2d | nn.Conv3d, forms: tuple[Form, ...]) -> Form:
    """The form of a layer that was not tried out: the same one in every process of a machine."""
    if conv.weight.dtype != torch.bfloat16:
        return "plain"
    if "folded" in forms and has_tiles():
        return "folded"
    return "pairs" if "pairs" in forms and conv.in_channels % 2 == 1 else "plain"


def has_tiles() -> bool:
    """Whether the processor multiplies bf16 in tiles (AMX)."""
    # private in torch, so a version may lack it
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


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
