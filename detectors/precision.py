"""Training in bfloat16 where it is safe: layers in bf16, norms, losses and weights in fp32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from .base import DetectorError

Precision = Literal["fp32", "bf16"]

NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)

_HALF = (torch.bfloat16, torch.float16)

T = TypeVar("T")


def widened(x: Tensor) -> Tensor:
    """Convert 16-bit floats to fp32; return every other tensor as it is."""
    return x.float() if x.dtype in _HALF else x


def all_widened(value: T) -> T:
    """Apply `widened` to all tensors in a mapping, tuple, list or dataclass.

    Raises:
        TypeError: it holds an object of another kind, which could hide tensors.
    """
    found: Any
    if isinstance(value, Tensor):
        found = widened(value)
    elif value is None or isinstance(value, bool | int | float | str):
        found = value
    elif isinstance(value, Mapping):
        found = {name: all_widened(part) for name, part in value.items()}
    elif isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        found = type(value)(*map(all_widened, value))
    elif isinstance(value, tuple | list):
        found = type(value)(map(all_widened, value))
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: all_widened(getattr(value, f.name)) for f in fields(value) if f.init}
        found = replace(value, **parts)
    else:
        raise TypeError(f"outputs of a network hold a {type(value).__name__}, not only tensors")
    return found  # type: ignore[no-any-return]


@contextmanager
def bfloat16(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Run the forward of a module in bf16, its norms in fp32; its weights stay fp32.

    Raises:
        DetectorError: the device cannot do it; nothing falls back to fp32.
    """
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise DetectorError(f"{device} has no bfloat16: train with precision = fp32")
    with ExitStack() as stack:
        for part in module.modules():
            if isinstance(part, NORMS):
                stack.callback(part.register_forward_pre_hook(_widen_inputs).remove)
        stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16))
        if not torch.is_autocast_enabled(device.type):
            raise DetectorError(f"{device} has no bfloat16: train with precision = fp32")
        yield


def check_bfloat16(device: str) -> None:
    """Check that a device computes in bf16 by itself; CPUs that only imitate it are slower.

    Raises:
        DetectorError: it does not.
    """
    if torch.device(device).type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # private in torch, so a version may lack them: then there is no bf16
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        able = any(getattr(torch.cpu, check, bool)() for check in checks)
    if not able:
        raise DetectorError(
            f"{device} has no bfloat16: take a device that has, or train with "
            "score_precision = fp32"
        )


def _widen_inputs(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return all_widened(inputs)
