"""What all benches share: contestants that take turns in one run, and facts of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from ...extractors.base import Precision
from ...extractors.device.inference import DTYPES
from ...extractors.device.tuning import processor
from ..engine.settings import cpu_count

MATMUL = {"cpu": 2048, "cuda": 8192}  # side of the square matrices


@dataclass(frozen=True)
class Contestant:
    """Something to be timed.

    Attributes:
        name: in the table.
        unit: of its rate.
        amount: what one run does, in units.
        run: does it.
    """

    name: str
    unit: str
    amount: float
    run: Callable[[], object]


@dataclass(frozen=True)
class Rate:
    """What a contestant reached."""

    unit: str
    best: float
    median: float

    def __str__(self) -> str:
        return f"{self.best:12,.2f} / {self.median:12,.2f} {self.unit}"


def race(contestants: Sequence[Contestant], repeats: int, device: str = "cpu") -> dict[str, Rate]:
    """Let all take turns, so that other load on the machine changes all of them alike.

    Args:
        contestants:
            In the order of their turns; each runs once before, to warm up.
        repeats:
            Turns.
        device:
            Waited for before a clock is read.

    Returns:
        name -> best and median rate.
    """
    times: dict[str, list[float]] = {each.name: [] for each in contestants}
    for turn in range(-1, repeats):
        for each in contestants:
            begin = time.perf_counter()
            each.run()
            wait_for(device)
            if turn >= 0:
                times[each.name].append(time.perf_counter() - begin)
    return {
        each.name: Rate(
            each.unit, each.amount / min(times[each.name]), each.amount / median(times[each.name])
        )
        for each in contestants
    }


def wait_for(device: str) -> None:
    """Wait until the device has finished all its work."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def matmul(precision: Precision, device: str = "cpu") -> Contestant:
    """The multiplication of two large square matrices, by the library that networks use too.

    The most that a network could reach, as far as that library uses the machine: on some CPUs
    convolutions use wider instructions in fp32 than it does.
    """
    side = MATMUL["cpu" if device == "cpu" else "cuda"]
    a = torch.randn(side, side, device=device).to(DTYPES[precision])
    return Contestant(f"matmul {precision}", "GFLOP/s", 2 * side**3 / 1e9, lambda: a @ a)


def hardware(device: str = "cpu") -> dict[str, str | int]:
    """What a rate was measured on."""
    facts: dict[str, str | int] = {
        "processor": processor("cpu"),
        "cores": cpu_count(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        facts["gpu"] = processor(device)
    return facts


def as_values(rates: dict[str, Rate]) -> dict[str, Any]:
    """Rates as plain JSON values."""
    return {name: asdict(rate) for name, rate in rates.items()}


def heading(device: str, *more: str) -> list[str]:
    """The first lines of every table."""
    return [", ".join(f"{k} {v}" for k, v in hardware(device).items()), *more]
