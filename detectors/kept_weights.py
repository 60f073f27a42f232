"""Weights in the layout and precision that a product wants, made once for many products.

A layer that learns lays its weights out in every step. One that only computes would do the same
work for every video.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the precision in which autocast multiplies matrices; that of `x` without autocast."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


class KeptWeight:
    """One weight of a layer in another form, kept as long as the weight stays as it is."""

    def __init__(self) -> None:
        self._weight: Tensor | None = None
        self._key: tuple[object, ...] = ()
        self._kept: Tensor | None = None

    def of(self, weight: Tensor, dtype: torch.dtype, lay_out: Callable[[Tensor], Tensor]) -> Tensor:
        """Return `lay_out(weight)` in a precision.

        It is kept only where no gradient is recorded, so that training holds no second copy.

        Args:
            weight:
                A parameter of the layer.
            dtype:
                Precision of the result.
            lay_out:
                The same function in every call.
        """
        if torch.is_grad_enabled():
            self._weight = self._kept = None
            return lay_out(weight.to(dtype))
        # Steps of an optimizer and loaded states raise the version, moves change the address.
        key = (weight._version, weight.data_ptr(), dtype)
        if self._kept is None or self._weight is not weight or key != self._key:
            self._weight, self._key = weight, key
            self._kept = lay_out(weight.detach().to(dtype))
        return self._kept

    def __deepcopy__(self, memo: dict[int, object]) -> KeptWeight:
        return KeptWeight()

    def __reduce__(self) -> tuple[type[KeptWeight], tuple[()]]:
        return KeptWeight, ()


class KeptLinear(nn.Linear):
    """`nn.Linear` over the last axis, with a kept weight where autocast would convert it again."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__(width, channels)
        self._kept_weight = KeptWeight()

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., channels)."""
        weight = self._kept_weight.of(self.weight, product_dtype(x), _as_it_is)
        return linear_rows(x, weight, self.bias)


def linear_rows(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(..., C), (F, C), (F,) -> (..., F) as one product.

    `linear` of torch copies the weight for every sequence where these do not lie one after the
    other.
    """
    found = nn.functional.linear(x.reshape(-1, x.shape[-1]), weight, bias)
    return found.view(*x.shape[:-1], -1)


def _as_it_is(weight: Tensor) -> Tensor:
    return weight
