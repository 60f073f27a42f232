"""Clips out of single frames with as few copies as possible.

A decoder writes frames one after the other into shared memory. A clip of such frames is a view of
that memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .footage.video import Frame


class _Neighbours:
    """Memory that several arrays share, for numpy; it keeps all of them alive."""

    def __init__(self, images: Sequence[NDArray[np.uint8]]) -> None:
        first = images[0].__array_interface__
        self._images = tuple(images)
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "typestr": first["typestr"],
            "shape": (len(images), *images[0].shape),
            "data": (first["data"][0], True),  # read-only: another clip may hold the same frames
        }


def view_of(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
    """Read-only view (n, H, W, 3) of frames that lie one after the other in memory, or None."""
    address = images[0].__array_interface__["data"][0]
    for image in images:
        if image.__array_interface__["data"][0] != address or not image.flags.c_contiguous:
            return None
        address += image.nbytes
    return np.asarray(_Neighbours(images))


class FrameMemory:
    """Makes the pictures of clips from frames, in the order of the clips.

    Frames that are not neighbours, or whose memory is scarce, are copied. Where clips overlap
    and frames lie in the memory of the decoder, some clips share a copy. It is half a clip longer
    than one, so that two of them and no frames take the memory of two clips and their frames.

    Args:
        overlaps:
            Whether a frame may belong to several clips.
    """

    def __init__(self, *, overlaps: bool) -> None:
        self._overlaps = overlaps
        self._block: NDArray[np.uint8] | None = None
        self._first = 0  # frame at the start of the block
        self._filled = 0  # frames in the block

    def pictures(self, frames: Sequence[Frame]) -> NDArray[np.uint8]:
        """The pictures of a clip (n, H, W, 3); read-only where they are shared with others."""
        images = [frame.image for frame in frames]
        if not frames[-1].memory_scarce:
            view = view_of(images)
            if view is not None:
                return view
        first, count = frames[0].index, len(frames)
        in_order = frames[-1].index - first == count - 1
        lent = not images[0].flags.writeable
        if not (self._overlaps and lent and in_order):  # the ends of a video repeat frames
            return np.stack(images)
        at = first - self._first
        if self._block is None or not 0 <= at <= self._filled or at + count > len(self._block):
            self._block = np.empty((count + count // 2, *images[0].shape), np.uint8)
            self._first, self._filled, at = first, 0, 0
        for place in range(self._filled, at + count):
            self._block[place] = images[place - at]
        self._filled = max(self._filled, at + count)
        clip = self._block[at : at + count].view()
        clip.flags.writeable = False
        return clip
