"""The one training loop: seeded, logged, and resumable after a kill.

A fit is a list of stages; each starts from the weights that the one before has kept. The content of
a batch is a function of (seed, stage, draw) only. A checkpoint keeps the state of the random
generators that dropout uses, and the best weights so far. So a resumed fit ends with the same
weights as one never stopped.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from .base import DetectorError, FitOptions, Row
from .checkpoint import Checkpoint
from .precision import Precision, all_widened, bfloat16
from .pretrained import Arrays, load_state
from .randomness import random_state, set_random_state, stage_seed
from .schedule import Schedule
from .segments import ahead
from .validation import Best, Validation

JUMP = 2.0  # a stage that starts at this many times the last loss before it deserves a warning

Batch = TypeVar("Batch")
Output = TypeVar("Output")


def first_losses(rows: Sequence[Row]) -> dict[str, float]:
    """Find the first "total" of each stage in the log, by the stage's name."""
    found: dict[str, float] = {}
    for row in rows:
        found.setdefault(str(row["stage"]), float(row["total"]))
    return found


def loss_jumps(rows: Sequence[Row], advice: str) -> list[str]:
    """Warn of stages that start at a loss far above the last one before them.

    Args:
        rows:
            Log rows of all stages.
        advice:
            What to do about it, the end of each sentence.

    Returns:
        One sentence for each stage whose first loss is more than `JUMP` times that before it.
    """
    warnings = []
    for before, row in itertools.pairwise(rows):
        last, first = float(before["total"]), float(row["total"])
        if row["stage"] != before["stage"] and first > JUMP * last:
            warnings.append(
                f"stage {row['stage']!r} starts at a loss of {first:.3g}, after {last:.3g} at the "
                f"end of the stage before: it disturbs what was learned; {advice}"
            )
    return warnings


@dataclass(kw_only=True)
class Fit(Generic[Batch, Output]):
    """One stage of training.

    Attributes:
        stage: index of the stage.
        name: name of the stage in the log.
        steps: number of steps of the optimizer.
        module: the network, with its frozen parts.
        optimizer: optimizer of the parameters that learn, with the full learning rates.
        batch: draw -> batch on the device; a step takes `accumulate` draws, counted from 0.
        forward: batch -> outputs of the network: a tensor, or a mapping, sequence or dataclass of
            tensors and plain values.
        losses: outputs -> named terms, each a mean over the batch; "total" is minimised.
        prefetch: see `FitOptions`; 0 if the data are on the device.
        schedule: schedule of the learning rates.
        precision: "bf16" runs `forward` in bfloat16, but norms, losses, gradients and weights in
            fp32; "fp32" runs everything as it is.
        accumulate: number of batches whose gradients a step averages. If the loss is a mean over
            samples, the gradient is that of one batch of all their samples. Batch norms and terms
            that compare the samples of a batch see one batch at a time.
        clip: largest L2 norm of all gradients together; larger ones are scaled down to it.
        validation: values to measure between steps, and the choice of the kept weights.
        pretrained: part of the module -> its first weights; see `load_state`. A resumed fit
            ignores them.
        strict: see `load_state`.
        rows: log rows of all stages so far.
        best: the best weights so far, if the validation chooses.
    """

    stage: int = 0
    name: str
    steps: int
    module: nn.Module
    optimizer: torch.optim.Optimizer
    batch: Callable[[int], Batch]
    forward: Callable[[Batch], Output]
    losses: Callable[[Output], dict[str, Tensor]]
    prefetch: int = 0
    schedule: Schedule = field(default_factory=Schedule)
    precision: Precision = "fp32"
    accumulate: int = 1
    clip: float | None = None
    validation: Validation | None = None
    pretrained: Mapping[str, Arrays] = field(default_factory=dict)
    strict: bool = True
    rows: list[Row] = field(default_factory=list)
    best: Best | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise DetectorError(f"{self.name}: accumulate is {self.accumulate}, not 1 or more")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise DetectorError(f"{self.name}: clip is {self.clip}, not a positive number")
        self.schedule.check(self.steps, self.name)
        # A checkpoint holds the scheduled rates; the full ones are those of the fresh optimizer.
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._device = next(self.module.parameters()).device
        if self.precision == "bf16":
            self._check_master_weights()

    @property
    def kept_step(self) -> int:
        """Number of the step whose weights a finished fit has kept, from 1."""
        return self.steps if self.best is None else self.best.step

    def run(
        self, *, seed: int, options: FitOptions, resumed: Checkpoint | None = None
    ) -> list[Row]:
        """Train to the last step; return the log rows of all stages so far.

        A row holds stage, step, steps, lr, every term of the loss, "grad_norm" before clipping (if
        `clip` is set), and four times in seconds: data (waiting for the batches), forward (with
        the losses), backward (with the optimizer), and the whole step. After a validation a row
        also holds "validation/NAME" for every value, "validation_seconds", and, if the validation
        chooses, "kept": 1 if these weights are the best so far.

        Args:
            seed:
                Seed of the fit; each stage derives its own.
            options:
                Folder and interval of checkpoints, and the callback for every row.
            resumed:
                Checkpoint of this stage, if it was interrupted.

        Raises:
            DetectorError: a loss, a gradient or the value that chooses the weights is not finite,
                or pretrained weights or the checkpoint do not fit.
        """
        start = self._begin(seed, resumed)
        saved = time.monotonic()
        draws = range(start * self.accumulate, self.steps * self.accumulate)
        with closing(ahead(self.batch, draws, self.prefetch)) as batches:
            for step in range(start, self.steps):
                row = self._step(step, batches)
                self._validate(step + 1, seed, row)
                self.rows.append(row)
                if options.on_step is not None:
                    options.on_step(row)
                late = time.monotonic() - saved >= options.checkpoint_seconds
                if options.folder is not None and late and step + 1 < self.steps:
                    self.checkpoint(step + 1).save(options.folder)
                    saved = time.monotonic()
        if self.best is not None:
            self.module.load_state_dict(self.best.module)
        return self.rows

    def checkpoint(self, step: int) -> Checkpoint:
        """Collect the state after `step` steps of this stage."""
        return Checkpoint(
            stage=self.stage,
            step=step,
            module=self.module.state_dict(),
            optimizer=self.optimizer.state_dict(),
            random=random_state(self._device),
            rows=self.rows,
            best=None if self.best is None else vars(self.best),
        )

    def _begin(self, seed: int, resumed: Checkpoint | None) -> int:
        """Set weights and random generators; return the number of steps that are done."""
        if resumed is None:
            load_state(self.module, self.pretrained, strict=self.strict)
            torch.manual_seed(stage_seed(seed, self.stage))
            return 0
        resumed.restore(self.module)
        self.optimizer.load_state_dict(resumed.optimizer)
        set_random_state(resumed.random, self._device)
        self.rows = list(resumed.rows)
        self.best = None if resumed.best is None else Best(**resumed.best)
        return resumed.step

    def _step(self, step: int, batches: Iterator[Batch]) -> Row:
        """Make one step of the optimizer; return its row of the log."""
        factor = self.schedule.factor(step, self.steps)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        data = forward = backward = 0.0
        summed: dict[str, Tensor] = {}
        clock = time.perf_counter()
        for _ in range(self.accumulate):
            batch = next(batches)
            waited = time.perf_counter()
            terms = self._terms(batch)
            computed = time.perf_counter()
            total = terms["total"] if self.accumulate == 1 else terms["total"] / self.accumulate
            total.backward()  # type: ignore[no-untyped-call]
            for name, term in terms.items():
                summed[name] = summed[name] + term.detach() if name in summed else term.detach()
            data, forward = data + waited - clock, forward + computed - waited
            clock = time.perf_counter()
            backward += clock - computed
        norm = None if self.clip is None else self._clip(self.clip)
        self.optimizer.step()
        means = torch.stack(list(summed.values()))
        values = (means if self.accumulate == 1 else means / self.accumulate).tolist()
        backward += time.perf_counter() - clock
        row: Row = {
            "stage": self.name,
            "step": step + 1,
            "steps": self.steps,
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            **dict(zip(summed, values, strict=True)),
            **({} if norm is None else {"grad_norm": float(norm)}),
            "data_seconds": data,
            "forward_seconds": forward,
            "backward_seconds": backward,
            "seconds": data + forward + backward,
        }
        self._check_finite(row, summed)
        return row

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        if self.precision == "fp32":
            return self.losses(self.forward(batch))
        with bfloat16(self.module, self._device):
            outputs = self.forward(batch)
        return self.losses(all_widened(outputs))

    def _clip(self, clip: float) -> Tensor:
        """Scale the gradients down to a norm; return their norm before."""
        learning = [p for group in self.optimizer.param_groups for p in group["params"]]
        return nn.utils.clip_grad_norm_(learning, clip)

    def _check_finite(self, row: Row, terms: Mapping[str, Tensor]) -> None:
        if not all(math.isfinite(float(row[name])) for name in terms):
            raise DetectorError(
                f"{self.name}: the loss is not finite at step {row['step']}: "
                f"{ {name: row[name] for name in terms} }; lower the learning rate"
            )
        if not math.isfinite(float(row.get("grad_norm", 0.0))):
            raise DetectorError(
                f"{self.name}: the gradient is not finite at step {row['step']}; lower the "
                "learning rate"
            )

    def _check_master_weights(self) -> None:
        learning = {p.dtype for group in self.optimizer.param_groups for p in group["params"]}
        if learning != {torch.float32}:
            raise DetectorError(
                f"{self.name}: precision bf16 needs weights in fp32, these are "
                f"{', '.join(sorted(str(dtype) for dtype in learning))}"
            )

    def _validate(self, done: int, seed: int, row: Row) -> None:
        """Measure where a validation is due, add the values to the row, keep the best weights."""
        validation = self.validation
        if validation is None or not validation.due(done, self.steps):
            return
        clock = time.perf_counter()
        measured = validation.run(
            self.module, done, stage_seed(seed, self.stage, done), self._device
        )
        row.update({f"validation/{name}": value for name, value in measured.items()})
        if validation.best is not None:
            value = float(measured[validation.best])
            better = validation.better(value, self.best)
            if better:
                self.best = Best.of(self.module, done, value)
            row["kept"] = int(better)
        row["validation_seconds"] = time.perf_counter() - clock
