"""The file of an unfinished fit."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data_manifests.atomic import write_atomically
from .base import DetectorError, Row

CHECKPOINT = "unfinished.pt"
LAYOUT = 2  # of the file; version 0.1 wrote layout 1, which had no number


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of an unfinished fit.

    Attributes:
        stage: index of the stage.
        step: steps of that stage that are done.
        module: state of the network.
        optimizer: state of the optimizer.
        random: state of torch's random generators; see `random_state`.
        rows: log rows of all steps so far.
        best: fields of `Best`, the best weights so far; None if the last ones are kept.
    """

    stage: int
    step: int
    module: dict[str, Any]
    optimizer: dict[str, Any]
    random: dict[str, Any]
    rows: list[Row]
    best: dict[str, Any] | None = None

    def save(self, folder: Path) -> None:
        """Write the checkpoint; the file appears whole or not at all.

        Raises:
            CannotWrite: the disk is full or read-only.
        """
        values = {"layout": LAYOUT, **vars(self)}
        write_atomically(folder / CHECKPOINT, lambda path: torch.save(values, path))

    @classmethod
    def load(cls, folder: Path | None) -> Checkpoint | None:
        """Read the checkpoint of a folder; None if there is none.

        Raises:
            DetectorError: the file exists and cannot be read, or another version wrote it.
        """
        if folder is None or not (folder / CHECKPOINT).is_file():
            return None
        path = folder / CHECKPOINT
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            layout = values.pop("layout", 1)
            if layout != LAYOUT:
                raise DetectorError(
                    f"{path} was written by another version of vadpipe (layout {layout}, this one "
                    f"reads {LAYOUT}): delete it to start again"
                )
            return cls(**values)
        except pickle.UnpicklingError as error:
            # torch's own text advises to read it in an unsafe way
            raise DetectorError(
                f"{path} cannot be read (it is damaged): delete it to start again"
            ) from error
        except (OSError, EOFError, RuntimeError, TypeError, AttributeError) as error:
            raise DetectorError(
                f"{path} cannot be read ({error}): delete it to start again"
            ) from error

    def restore(self, module: nn.Module) -> None:
        """Copy the state of the network into a module.

        Raises:
            DetectorError: they belong to another one.
        """
        try:
            module.load_state_dict(self.module)
        except RuntimeError as error:
            raise DetectorError(
                f"the unfinished training ({CHECKPOINT}) belongs to another network: delete it to "
                f"start again ({error})"
            ) from error


def discard_checkpoint(folder: Path | None) -> None:
    """Delete the checkpoint of a fit that is finished."""
    if folder is not None:
        (folder / CHECKPOINT).unlink(missing_ok=True)
