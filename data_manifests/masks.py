"""Pixel masks of videos, read one at a time.

A video has a folder with a picture for each frame, or one file: `.npy` with (frames, height, width)
numbers (ShanghaiTech), or `.mat` with the cell array `volLabel`, one matrix a frame (Avenue).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .mat_file import read_cells
from .npy_file import mapped_array
from .record import ManifestError, image_files

MAT_VARIABLE = "volLabel"


def read_masks(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """The masks of a video in order, each with a name for messages.

    Args:
        path:
            A folder of one picture a frame, in natural order of the names; or a `.npy` or `.mat`
            file.

    Yields:
        Name and mask: (H, W), or (H, W, 3) of a picture with colours; a pixel > 0 is abnormal.

    Raises:
        ManifestError: there are no such masks, or one cannot be read.
    """
    if path.suffix == ".mat":
        for number, mask in enumerate(read_cells(path, MAT_VARIABLE)):
            yield f"{number} of {path}", mask
        return
    if path.suffix == ".npy":
        yield from _array(path)
        return
    if not path.is_dir():
        raise ManifestError(f"mask folder {path} does not exist")
    for picture in image_files(path):
        try:
            with Image.open(picture) as image:
                one_channel = image.mode in ("1", "L", "I", "I;16", "F")
                yield str(picture), np.asarray(image if one_channel else image.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ManifestError(f"mask {picture} cannot be read: {error}") from error


def _array(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    masks = mapped_array(path, f"masks {path} cannot be read")
    if masks.ndim != 3 or masks.dtype.kind not in "bui":
        raise ManifestError(
            f"masks {path} are {masks.dtype} {masks.shape}, not numbers of (frames, height, width)"
        )
    for number, mask in enumerate(masks):
        yield f"{number} of {path}", np.asarray(mask)


def abnormal_pixels(path: Path) -> Iterator[NDArray[np.bool_]]:
    """The masks of a video as (H, W) bool, True where a pixel is abnormal.

    Raises:
        ManifestError: see `read_masks`; or a mask is empty or is no picture.
    """
    for name, mask in read_masks(path):
        if mask.ndim not in (2, 3) or not mask.size:
            raise ManifestError(f"mask {name} has the shape {mask.shape}: it is no picture")
        yield np.asarray(mask > 0 if mask.ndim == 2 else (mask > 0).any(axis=2), dtype=np.bool_)


def mask_areas(path: Path) -> NDArray[np.float64]:
    """How much of each frame is abnormal: (n,) shares of its pixels, from 0 to 1.

    Raises:
        ManifestError: see `abnormal_pixels`; or there are no masks.
    """
    areas = [float(mask.mean()) for mask in abnormal_pixels(path)]
    if not areas:
        raise ManifestError(f"no masks found in {path}")
    return np.array(areas)
