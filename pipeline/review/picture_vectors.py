"""Vectors of the pictures of a page: where and in which colours they differ from their camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (16, 12)  # width, height of what is compared
WORDS = "where their pictures differ from others of the camera, and in which colours"


def picture_vectors(
    pictures: Sequence[Path | None], places: Sequence[str]
) -> tuple[NDArray[np.float64], list[int]]:
    """Small pictures without the median of those of the same place: what all have in common.

    Args:
        pictures:
            JPEGs that vadpipe wrote; None where there is none.
        places:
            Of each: the camera, or the video.

    Returns:
        (n, D) of those that can be read, and which they are. A place with one picture has zeros.
    """
    found: dict[int, NDArray[np.float64]] = {}
    for k, path in enumerate(pictures):
        if path is None:
            continue
        try:
            with Image.open(path) as image:
                small = image.convert("RGB").resize(SIZE, Image.Resampling.BOX)
        except OSError:
            continue
        found[k] = np.asarray(small, np.float64).ravel() / 255
    for place in {places[k] for k in found}:
        own = [k for k in found if places[k] == place]
        usual = np.median([found[k] for k in own], axis=0)
        for k in own:
            found[k] = found[k] - usual
    known = sorted(found)
    values = [found[k] for k in known]
    return np.stack(values) if values else np.zeros((0, 3 * SIZE[0] * SIZE[1])), known
