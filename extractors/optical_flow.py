"""Optical flow by OpenCV: where the pixels of a frame are in the next one.

Methods: DIS (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016), TV-L1
(Zach et al., DAGM 2007) and Farneback (SCIA 2003). OpenCV computes each pair of frames in one
thread, so that the number of threads is no part of a result; `extractors/flow.py` works on several
pairs at once instead.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .device.pixels import tensor_of
from .device.resize import Size, resize_frames
from .errors import ExtractorError

Method = Literal["dis", "tvl1", "farneback"]
SpanName = Literal["next", "around"]
USUAL_PIXELS = 256 * 256  # of a frame that flow is computed on
SMALLEST = 16  # pixels of height and width; DIS takes no smaller frames


def flow_between(
    frames: NDArray[np.uint8],
    method: Method = "dis",
    *,
    size: Size | None = None,
    scale: float = 1.0,
) -> NDArray[np.float32]:
    """Compute the flow from each frame to the next one.

    Args:
        frames:
            (T, H, W, 3) uint8 RGB.
        method:
            "dis", "tvl1" or "farneback".
        size:
            (height, width) that frames are resized to; None leaves them as they are.
        scale:
            Flow is computed on frames of this many times that size, and resized back.

    Returns:
        (T - 1, height, width, 2) float32: pixels of `size` to the right, and down.

    Raises:
        ExtractorError: there are fewer than two frames, or they are too small.
    """
    if len(frames) < 2:
        raise ExtractorError(f"flow needs two frames or more, not {len(frames)}")
    size = size or (frames.shape[1], frames.shape[2])
    grey = grey_frames(frames, scaled(size, scale))
    return np.stack([flow_of(first, second, method, size) for first, second in pairwise(grey)])


def scaled(size: Size, scale: float) -> Size:
    """(height, width) that flow is computed at.

    Raises:
        ExtractorError: it is too small.
    """
    height, width = round(size[0] * scale), round(size[1] * scale)
    if min(height, width) < SMALLEST:
        raise ExtractorError(
            f"flow needs frames of {SMALLEST} x {SMALLEST} pixels or more, not {height} x {width}: "
            "enlarge size or scale"
        )
    return height, width


def usual_scale(size: Size) -> float:
    """How many times a size flow is computed at, where the user does not say.

    The largest whole number with which a frame has no more than 256 x 256 pixels, and 1 for larger
    sizes. OpenCV's DIS compares patches of 8 x 8 pixels on frames of half the size that it is
    given: at 64 x 64, a walking person is smaller than that.
    """
    return float(max(1, math.isqrt(USUAL_PIXELS // (size[0] * size[1]))))


def grey_frames(frames: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Resize and turn to grey: (T, H, W, 3) RGB -> (T, height, width) uint8."""
    import cv2  # its import takes half a second

    resized = resize_frames(tensor_of(frames), size).numpy()
    pictures = [cv2.cvtColor(np.ascontiguousarray(f), cv2.COLOR_RGB2GRAY) for f in resized]
    return np.stack(pictures).astype(np.uint8, copy=False)


def flow_of(
    first: NDArray[np.uint8], second: NDArray[np.uint8], method: Method, size: Size
) -> NDArray[np.float32]:
    """Compute the flow of one pair of grey frames (h, w) uint8, resized: (height, width, 2).

    Several threads may call it.

    Raises:
        ExtractorError: there is no such method.
    """
    import cv2

    cv2.setNumThreads(1)  # of this process; see the module
    if method == "dis":
        dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        flow = dis.calc(first, second, None)  # type: ignore[call-overload]
    elif method == "tvl1":
        flow = cv2.optflow.DualTVL1OpticalFlow.create().calc(first, second, None)  # type: ignore[call-overload]
    elif method == "farneback":  # the numbers of OpenCV's tutorial
        flow = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
    else:
        raise ExtractorError(f"no flow method {method!r}; there are: {', '.join(get_args(Method))}")
    height, width = flow.shape[:2]
    if (height, width) != size:
        smaller = size[0] <= height and size[1] <= width
        kind = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        flow = cv2.resize(flow, (size[1], size[0]), interpolation=kind)
        flow = flow * np.array([size[1] / width, size[0] / height], np.float32)
    return np.asarray(flow, np.float32)
