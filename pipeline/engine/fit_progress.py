"""What a user sees of a fit while it runs: progress bars, and TensorBoard's files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...detectors.base import DetectorError, FitOptions
from .progress import progress_bars


@contextmanager
def watched(options: FitOptions, tensorboard: Path | None) -> Iterator[FitOptions]:
    """Options that show the progress of a fit, and write TensorBoard's files where asked to.

    Raises:
        DetectorError: TensorBoard is not installed.
    """
    with ExitStack() as stack:
        add = stack.enter_context(progress_bars())
        bars: dict[str, Callable[[float], None]] = {}

        def on_load(done: int, total: int) -> None:
            if "read features" not in bars:
                bars["read features"] = add("read features", total)
            bars["read features"](1)

        writer = None if tensorboard is None else stack.enter_context(_event_writer(tensorboard))

        def on_step(row: Mapping[str, float | int | str]) -> None:
            stage, step = str(row["stage"]), int(row["step"])
            if stage not in bars:
                bars[stage] = add(stage, int(row["steps"]))
            bars[stage](1)
            if writer is not None:
                for name, value in row.items():
                    if isinstance(value, float):
                        writer.add_scalar(f"{stage}/{name}", value, step)

        yield replace(options, on_load=on_load, on_step=on_step)


@contextmanager
def _event_writer(folder: Path) -> Iterator[Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DetectorError(
            "TensorBoard is not installed: pip install 'vadpipe[tensorboard]'"
        ) from error
    with SummaryWriter(str(folder)) as writer:
        yield writer
