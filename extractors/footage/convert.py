"""Pictures of a decoder as RGB arrays: the same pixels on every machine."""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from .resizing import Resize, placed
from .video import ProbeRow, Room


class PictureConverter:
    """Decoded frames -> upright (H, W, 3) uint8 RGB of the row's size, or of others.

    The conversion is swscale's, with fixed flags: the matrix (BT.601, BT.709, ...) and the range
    are those that the stream states; FFmpeg takes BT.601 and limited range where it states none.
    """

    def __init__(self, row: ProbeRow, room: Room | None, resizes: Sequence[Resize] = ()) -> None:
        self._room = room
        self._resizes = resizes
        self._turns = row.rotation // 90
        swapped = self._turns % 2
        self._height = row.width if swapped else row.height
        self._width = row.height if swapped else row.width
        self._reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> tuple[NDArray[np.uint8], ...]:
        """Convert one picture, and write it to where it is kept, in each size that is kept."""
        return placed(self.convert(picture), self._resizes, self._room)

    def convert(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        """A view of the converted picture."""
        rgb = self._reformatter.reformat(
            picture,
            width=self._width,
            height=self._height,
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(self._height, plane.line_size)
        pixels = rows[:, : 3 * self._width].reshape(self._height, self._width, 3)
        return np.rot90(pixels, -self._turns)
