"""Arrays in `.npy` files of others: mapped, never unpickled; every fault is one error."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .record import ManifestError


def mapped_array(path: Path, problem: str) -> NDArray[Any]:
    """The array in a file, read as it is used.

    It is mapped, so that a false header cannot ask for more memory than the file has bytes.

    Args:
        path:
            The file.
        problem:
            How the message begins where it is no array; it names the file.

    Raises:
        ManifestError: it is no array, or cannot be read.
    """
    try:
        return cast(NDArray[Any], np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:  # a hostile header can make the parser raise anything
        raise ManifestError(f"{problem}: {error}") from error
