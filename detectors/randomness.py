"""Torch's random generators: seeds of a stage, the state in a checkpoint, private draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .base import DetectorError


@contextmanager
def private_random(device: str | torch.device) -> Iterator[None]:
    """Restore torch's random generators at the end, so that the caller's draws do not change."""
    target = torch.device(device)
    devices = [target] if target.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def stage_seed(seed: int, stage: int, step: int = 0) -> int:
    """Compute the seed of a stage of a fit (step 0), or of the validation after a step."""
    return (seed * 1_000_003 + stage * 7_919 + 1 + step * 104_729) % (1 << 63)


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the state of the random generators that a fit on this device uses."""
    state: dict[str, Any] = {"device": device.type, "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Set the random generators to what `random_state` returned.

    Raises:
        DetectorError: that was on another kind of device, which draws other numbers.
    """
    if state["device"] != device.type:
        raise DetectorError(
            f"the unfinished training ran on {state['device']}, this one runs on {device.type}: "
            f"go on with --device {state['device']}, or start again with --force"
        )
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
