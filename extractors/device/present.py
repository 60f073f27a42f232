"""Which devices this machine has: the one check of every command that takes a device."""

from __future__ import annotations

import re

from ..errors import ExtractorError


def cuda_count() -> int:
    """CUDA devices that this process can use."""
    import torch  # takes seconds; a CPU needs no check

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def check_device(name: str) -> str:
    """Return the name of a device of this machine, unchanged.

    From then on fp32 means fp32 on CUDA in this process: TF32 is off, for convolutions, where torch
    has it on, and for products, where it has it off. So a result does not depend on what ran
    before, and convolutions are compared with products of the same precision.

    Args:
        name:
            "cpu", "cuda" (the first one) or "cuda:N".

    Raises:
        ExtractorError: the name is no device's, or there is no such device.
    """
    if name == "cpu":
        return name
    if not re.fullmatch(r"cuda(:[0-9]{1,4})?", name):
        raise ExtractorError(f"device {name!r} is unknown: take cpu, cuda or cuda:N")
    count = cuda_count()
    if int(name.partition(":")[2] or 0) >= count:
        found = f"there is no device {name!r} ({count} CUDA devices found)"
        there = f", or cuda:0 to cuda:{count - 1}" if count > 1 else ", or cuda:0" if count else ""
        raise ExtractorError(f"{found}: take cpu{there}")
    switch_tf32_off()
    return name


def switch_tf32_off() -> None:
    """Let CUDA multiply fp32 in fp32, in this process."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
