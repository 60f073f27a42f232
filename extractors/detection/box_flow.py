"""Motion of objects: the flow inside each box, in pixels a frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..clips import Clip
from ..optical_flow import Method, SpanName, flow_between
from .selection import pixel_box

STATISTICS = ("median_speed", "mean_speed", "right", "down")


def box_flow(
    clip: Clip,
    at: int,
    boxes: NDArray[np.float32],
    method: Method,
    scale: float,
    span: SpanName = "around",
) -> NDArray[np.float32]:
    """Measure the flow inside boxes, a frame. A video of one frame has none.

    Args:
        clip:
            With a frame before and a frame after `at`.
        at:
            Place of the objects' own frame in the clip.
        boxes:
            (n, 4) within the frame.
        method:
            Of the flow.
        scale:
            Flow is computed on frames of this many times their size.
        span:
            "around": from the frame before to the frame after, halved; at the ends of a video over
            one frame. "next": from the frame to the next one; the last frame repeats the flow
            before it.

    Returns:
        (n, 4) float32, see `STATISTICS`: median and mean of the speed of a box's pixels, and their
        mean motion to the right and down.

    Raises:
        ExtractorError: the frames are too small for flow.
    """
    found = np.zeros((len(boxes), len(STATISTICS)), np.float32)
    before, here, after = (int(i) for i in clip.index[at - 1 : at + 2])
    steps = (before != here) + (after != here)
    if not len(boxes) or not steps:
        return found
    pair = [at - 1, at + 1]
    if span == "next":
        pair, steps = [at, at + 1] if after != here else [at - 1, at], 1
    flow = flow_between(clip.frames[pair], method, scale=scale)[0] / steps
    speed = np.hypot(flow[..., 0], flow[..., 1])
    for row, box in zip(found, boxes, strict=True):
        x0, y0, x1, y1 = pixel_box(box)
        inside = speed[y0:y1, x0:x1]
        row[:] = np.median(inside), inside.mean(), *flow[y0:y1, x0:x1].mean((0, 1))
    return found
