"""Pictures that are resized where they are decoded, so that only small ones go to the reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .video import Room


@dataclass(frozen=True)
class Resize:
    """A resize of every picture of a video, by `resize_frames`: the same bits wherever it runs.

    Attributes:
        height: rows afterwards.
        width: columns afterwards.
        kind: the filter; both have antialias.
    """

    height: int
    width: int
    kind: Literal["bilinear", "bicubic"] = "bilinear"

    @property
    def nbytes(self) -> int:
        """Bytes of a picture afterwards."""
        return self.height * self.width * 3

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize a picture: (H, W, 3) -> (height, width, 3), a new array unless it has that size.

        torch is imported with the first call.
        """
        from ..device.pixels import tensor_of
        from ..device.resize import resize_frames

        if min(picture.strides) < 0:  # torch has none of these, which turned pictures have
            picture = picture.copy()
        whole = tensor_of(picture[None])
        small: NDArray[np.uint8] = resize_frames(whole, (self.height, self.width), self.kind)[
            0
        ].numpy()
        return small


def placed(
    picture: NDArray[np.uint8], resizes: Sequence[Resize], room: Room | None
) -> tuple[NDArray[np.uint8], ...]:
    """Write a picture to where it is kept.

    Args:
        picture:
            (H, W, 3); a view of memory that is about to be written again.
        resizes:
            What is kept of it, one picture each; empty keeps it as it is.
        room:
            Returns where each of them is written to; None makes new arrays.
    """
    made = [resize(picture) for resize in resizes] or [picture]
    places = tuple(np.empty(each.shape, np.uint8) for each in made) if room is None else room()
    for place, each in zip(places, made, strict=True):
        place[...] = each  # of a picture that is not resized, the only copy
    return places


def sizes_of(height: int, width: int, resizes: Sequence[Resize]) -> list[tuple[int, int]]:
    """(height, width) of what is kept of each picture of a video."""
    return [(each.height, each.width) for each in resizes] or [(height, width)]
