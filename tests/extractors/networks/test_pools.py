"""Pools by maxima against torch's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from vadpipe.extractors.networks.pools import max_of_frame_pairs, max_of_frames, max_of_squares

POOLS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], int]] = {
    "squares": (max_of_squares, lambda x: functional.max_pool2d(x, 2), 4),
    "frames": (max_of_frames, lambda x: x.amax(2), 5),
    "pairs": (max_of_frame_pairs, lambda x: functional.max_pool3d(x, (2, 1, 1), (2, 1, 1)), 5),
}


@settings(max_examples=40, deadline=None)
@given(
    pool=st.sampled_from(sorted(POOLS)),
    sizes=st.tuples(*[st.integers(2, 7)] * 3),
    low=st.booleans(),
    gradient=st.booleans(),
    last=st.booleans(),
)
def test_a_pool_by_maxima_is_torchs(
    pool: str, sizes: tuple[int, ...], low: bool, gradient: bool, last: bool
) -> None:
    """In every bit, with infinities and numbers that are none, in any layout."""
    ours, theirs, axes = POOLS[pool]
    x = torch.randn(2, 3, *sizes[: axes - 2]).to(torch.bfloat16 if low else torch.float32)
    x.flatten()[::7] = float("inf")
    x.flatten()[::11] = float("nan")
    if last:
        x = x.contiguous(memory_format=torch.channels_last if axes == 4 else torch.channels_last_3d)
    with torch.set_grad_enabled(gradient):
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("pool", sorted(POOLS))
def test_gradients_are_torchs(pool: str) -> None:
    """Also of equal values, of which a pool chooses one."""
    ours, theirs, axes = POOLS[pool]
    values = torch.ones(1, 2, 4, 4, *([4] if axes == 5 else []))
    found = []
    for apply in (ours, theirs):
        x = values.clone().requires_grad_()
        apply(x).sum().backward()  # type: ignore[no-untyped-call]
        found.append(x.grad)
    assert found[0] is not None and torch.equal(found[0], found[1])
