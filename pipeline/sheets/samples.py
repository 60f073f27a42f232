"""Pictures of training windows: drawn while a detector is fitted, kept with its model."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...data_manifests.atomic import write_atomically
from ...detectors.samples import Sample
from ...extractors.flow_colours import flow_colours, full_length
from .layout import tiled

SIDE = 160  # of a tile, the longer one
QUALITY = 90  # of JPEG
FULL_QUANTILE = 0.99  # of the errors of a sheet: more than that is white
LEAST_FULL = 1e-12  # where nothing has an error


class SampleFiles:
    """Writes a sheet for each sample: `<stage>-first.jpg` and `<stage>-last.jpg`.

    No sheet is worth a training: what goes wrong with one becomes a warning.

    Args:
        making:
            Folder that outlives a killed training.
        kept:
            Folder of the model.
    """

    def __init__(self, making: Path, kept: Path) -> None:
        self._making, self._kept = making, kept
        self._warnings: list[str] = []

    def add(self, sample: Sample) -> None:
        """Draw a sample."""
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", sample.stage)
        path = self._making / f"{name}-{sample.when}.jpg"
        try:
            picture = Image.fromarray(sample_sheet(sample))
            write_atomically(path, lambda p: picture.save(p, "JPEG", quality=QUALITY))
        except Exception as error:  # whatever it is, hours of training are worth more
            self._warnings.append(f"samples of {sample.stage} could not be drawn: {error}")

    def keep(self) -> tuple[str, ...]:
        """Put the sheets into the folder of the model, in place of older ones.

        Returns:
            Warnings about samples that are not there.
        """
        try:
            if self._kept.is_dir():
                shutil.rmtree(self._kept)
            for made in sorted(self._making.glob("*.jpg")):
                write_atomically(self._kept / made.name, partial(shutil.copy, made))
        except Exception as error:  # as above
            self._warnings.append(f"samples could not be kept in {self._kept}: {error}")
        return tuple(self._warnings)


def sample_sheet(sample: Sample) -> NDArray[np.uint8]:
    """Draw a sample: a line for each window, a column for each kind of picture.

    Flow is drawn in colours and errors in grey, each on one scale for the sheet, which the caption
    states.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    arrays = {name: np.nan_to_num(pictures) for name, pictures in sample.pictures.items()}
    flow = [a for a in arrays.values() if _is_flow(a)]
    errors = [a for a in arrays.values() if a.ndim == 3]
    notes = [f"{sample.stage}, step {sample.step} of {sample.steps}"]
    length = white = 1.0
    if flow:
        length = max(full_length(a) for a in flow)
        notes.append(f"strongest colour: {length:.3g} pixels a frame")
    if errors:
        white = max(float(np.quantile(np.stack(errors), FULL_QUANTILE)), LEAST_FULL)
        notes.append(f"white: squared errors from {white:.3g} on")
    drawn = [_drawn(array, length, white) for array in arrays.values()]
    height, width = drawn[0].shape[1:3]
    tiles = [pictures[i] for i in range(len(sample.windows)) for pictures in drawn]
    names = list(arrays)[1:]
    labels = [text for window in sample.windows for text in (_plain(window), *names)]
    across = max(1, round(SIDE * width / max(height, width)))
    return tiled(tiles, labels, across, len(drawn), "; ".join(notes))


def _is_flow(array: NDArray[Any]) -> bool:
    return array.ndim == 4 and array.shape[3] == 2


def _drawn(array: NDArray[Any], length: float, white: float) -> NDArray[np.uint8]:
    """(n, H, W, 3) uint8 of pictures of one kind."""
    if _is_flow(array):
        return flow_colours(array, length)
    if array.ndim == 3:
        grey = np.rint(np.clip(array / white, 0, 1) * 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    return array.astype(np.uint8, copy=False)


def _plain(text: str) -> str:
    """What the font of Pillow has."""
    return text.encode("ascii", "replace").decode()
