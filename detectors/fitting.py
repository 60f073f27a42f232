"""The one training loop: seeded, logged, and resumable after a kill.

A fit is a list of stages; each starts from the last weights of the one before. The content of a
batch is a function of (seed, stage, step) only, and a checkpoint keeps the state of the random
generators that dropout uses. So a resumed fit ends with the same weights as one never stopped.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..data_manifests.atomic import write_atomically
from .base import DetectorError, FitOptions, Row
from .segments import ahead

CHECKPOINT = "unfinished.pt"

Batch = TypeVar("Batch")


@dataclass
class Checkpoint:
    """The state of an unfinished fit.

    Attributes:
        stage: index of the stage.
        step: steps of that stage that are done.
        module: state of the network.
        optimizer: state of the optimizer.
        random: state of torch's random generators.
        rows: log rows of all steps so far.
    """

    stage: int
    step: int
    module: dict[str, Any]
    optimizer: dict[str, Any]
    random: dict[str, Any]
    rows: list[Row]

    def save(self, folder: Path) -> None:
        """Write the checkpoint; the file appears whole or not at all.

        Raises:
            CannotWrite: the disk is full or read-only.
        """
        write_atomically(folder / CHECKPOINT, lambda path: torch.save(vars(self), path))

    @classmethod
    def load(cls, folder: Path | None) -> Checkpoint | None:
        """Read the checkpoint of a folder; None if there is none.

        Raises:
            DetectorError: the file exists and cannot be read.
        """
        if folder is None or not (folder / CHECKPOINT).is_file():
            return None
        path = folder / CHECKPOINT
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            return cls(**values)
        except (OSError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
            raise DetectorError(
                f"{path} cannot be read ({error}): delete it to start again"
            ) from error


def discard_checkpoint(folder: Path | None) -> None:
    """Delete the checkpoint of a fit that is finished."""
    if folder is not None:
        (folder / CHECKPOINT).unlink(missing_ok=True)


@dataclass
class Fit(Generic[Batch]):
    """One stage of training.

    Attributes:
        stage: index of the stage.
        name: name of the stage in the log.
        steps: number of steps.
        module: the network, with its frozen parts.
        optimizer: optimizer of the parameters that learn.
        batch: step -> batch on the device.
        losses: batch -> named terms; "total" is minimised.
        prefetch: see `FitOptions`; 0 if the data are on the device.
        rows: log rows of all stages so far.
    """

    stage: int
    name: str
    steps: int
    module: nn.Module
    optimizer: torch.optim.Optimizer
    batch: Callable[[int], Batch]
    losses: Callable[[Batch], dict[str, Tensor]]
    prefetch: int = 0
    rows: list[Row] = field(default_factory=list)

    def run(self, seed: int, options: FitOptions, resumed: Checkpoint | None) -> list[Row]:
        """Train to the last step and return the log rows of all stages so far.

        A row holds stage, step, steps, lr, every term of the loss, and four times in seconds: data
        (waiting for the batch), forward, backward (with the optimizer), and the whole step.

        Raises:
            DetectorError: the loss is not finite.
        """
        start = 0
        if resumed is not None:
            self.optimizer.load_state_dict(resumed.optimizer)
            _set_random(resumed.random)
            self.rows = list(resumed.rows)
            start = resumed.step
        else:
            torch.manual_seed(_mixed(seed, self.stage))
        saved = time.monotonic()
        clock = time.perf_counter()
        for step, batch in enumerate(
            ahead(self.batch, range(start, self.steps), self.prefetch), start=start
        ):
            waited = time.perf_counter()
            terms = self.losses(batch)
            forward = time.perf_counter()
            self.optimizer.zero_grad(set_to_none=True)
            terms["total"].backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            values = torch.stack([term.detach() for term in terms.values()]).tolist()
            done = time.perf_counter()
            row: Row = {
                "stage": self.name,
                "step": step + 1,
                "steps": self.steps,
                "lr": float(self.optimizer.param_groups[0]["lr"]),
                **dict(zip(terms, values, strict=True)),
                "data_seconds": waited - clock,
                "forward_seconds": forward - waited,
                "backward_seconds": done - forward,
                "seconds": done - clock,
            }
            if not all(value == value and abs(value) != float("inf") for value in values):
                raise DetectorError(
                    f"{self.name}: the loss is not finite at step {step + 1}: "
                    f"{ {k: row[k] for k in terms} }; lower the learning rate"
                )
            self.rows.append(row)
            if options.on_step is not None:
                options.on_step(row)
            late = time.monotonic() - saved >= options.checkpoint_seconds
            if options.folder is not None and late and step + 1 < self.steps:
                self.checkpoint(step + 1).save(options.folder)
                saved = time.monotonic()
            clock = time.perf_counter()
        return self.rows

    def checkpoint(self, step: int) -> Checkpoint:
        """Collect the state after `step` steps of this stage."""
        return Checkpoint(
            self.stage,
            step,
            self.module.state_dict(),
            self.optimizer.state_dict(),
            _get_random(),
            self.rows,
        )


@contextmanager
def private_random(device: str) -> Iterator[None]:
    """Restore torch's random generators at the end, so that the caller's draws do not change."""
    target = torch.device(device)
    devices = [target] if target.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def _mixed(seed: int, stage: int) -> int:
    return (seed * 1_000_003 + stage * 7_919 + 1) % (1 << 63)


def _get_random() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
