"""In-painters of OpenCV: the border of a hole is drawn into it. They need no weights."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from ..base import Runtime
from ..draws import Draws
from .contract import InPainter

RADIUS = 3.0  # pixels around each filled one that it is computed from


class OpenCvPainter(InPainter):
    """`telea` (Telea, 2004) or `navier_stokes` (Bertalmio et al., CVPR 2001).

    Args:
        method:
            A flag of `cv2.inpaint`.
    """

    def __init__(self, method: int) -> None:
        self._method = method
        self._pool: ThreadPoolExecutor | None = None

    def load(self, runtime: Runtime) -> None:
        """Take threads for several pictures at once; OpenCV fills each of them in one."""
        if (runtime.threads or 1) > 1:
            self._pool = ThreadPoolExecutor(runtime.threads, thread_name_prefix="in-painting")

    def fill(
        self, frames: NDArray[np.uint8], masks: NDArray[np.bool_], draws: Sequence[Draws]
    ) -> NDArray[np.uint8]:
        """Fill pictures one by one."""
        run = map if self._pool is None else self._pool.map
        return np.stack(list(run(self._one, frames, masks)))

    def _one(self, frame: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
        whole = np.ascontiguousarray(frame)
        filled = cv2.inpaint(whole, mask.astype(np.uint8), RADIUS, self._method)
        return np.asarray(filled, np.uint8)
