"""Extractor `scene_checks`: how bright, rich in contrast, sharp and alive a picture is.

A few numbers and a tiny picture a row, for the detector `tampering`: arithmetic without a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from .base import ArraySpec, Config, Extractor, Rows, Runtime, one_row_each
from .clips import Clip, ClipRule
from .footage.resizing import Resize
from .optical_flow import grey_frames

WIDTH = 320  # sharpness is measured at this width, so that it does not depend on the resolution
THUMBNAIL = (24, 32)  # rows, columns
CHECKS = ("brightness", "contrast", "sharpness", "change")


class SceneChecksConfig(Config):
    """Settings of `scene_checks`.

    Attributes:
        stride: frames from one row to the next.
    """

    stride: PositiveInt = 12


class SceneChecks(Extractor[SceneChecksConfig]):
    """Four numbers and a tiny grey picture a row.

    "checks" (4,) float32: mean and standard deviation of the grey values (0 to 255), the logarithm
    of 1 + the variance of the Laplacian, and the mean absolute difference from the frame before (0
    for the first frame of a video that has no other). "thumbnail" (24, 32) uint8: grey.
    """

    name: ClassVar[str] = "scene_checks"
    version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = SceneChecksConfig
    batch_size: ClassVar[int] = 32

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """The numbers, and the picture."""
        return (
            ArraySpec(
                "checks",
                "float32",
                ("frame", "check"),
                (len(CHECKS),),
                role="checks",
                attrs=(("names", list(CHECKS)),),
            ),
            ArraySpec(
                "thumbnail", "uint8", ("frame", "row", "column"), THUMBNAIL, role="thumbnail"
            ),
        )

    @property
    def clip_rule(self) -> ClipRule:
        """Single frames with the frame before; the first frame has the one after."""
        return ClipRule(1, self.config.stride, before=1, after=1)

    def resize_first(self, height: int, width: int) -> Resize:
        """The width that sharpness is measured at."""
        return Resize(*_size(height, width))

    def load(self, runtime: Runtime) -> None:
        """Do nothing: there is no network."""

    def extract(self, clips: Sequence[Clip]) -> dict[str, Rows]:
        """Measure the clips of one frame each with its neighbours."""
        rows = [_measured(clip) for clip in clips]
        checks, thumbnails = (np.stack(part) for part in zip(*rows, strict=True))
        return {"frame": one_row_each(clips, {"checks": checks, "thumbnail": thumbnails})}

    def recipe(self) -> dict[str, Any]:
        """Add to the recipe what happens to the pixels."""
        resize = f"bilinear, antialias, uint8, {WIDTH} wide"
        return {**super().recipe(), "pixels": {"colour": "grey of RGB", "resize": resize}}


def _size(height: int, width: int) -> tuple[int, int]:
    return max(THUMBNAIL[0], round(height * WIDTH / width)), WIDTH


def _measured(clip: Clip) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The numbers and the picture of the middle frame of three."""
    import cv2  # its import takes half a second

    before, here, _ = (int(i) for i in clip.index)
    size = _size(*clip.frames.shape[1:3])
    pair = clip.frames[[1, 0 if before != here else 2]]
    now, other = grey_frames(pair, size)
    laplacian = cv2.Laplacian(now, cv2.CV_32F)
    checks = [
        float(now.mean()),
        float(now.std()),
        float(np.log1p(laplacian.var())),
        float(cv2.absdiff(now, other).mean()),
    ]
    small = cv2.resize(now, THUMBNAIL[::-1], interpolation=cv2.INTER_AREA)
    return np.array(checks, np.float32), np.asarray(small, np.uint8)
