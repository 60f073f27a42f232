"""Motion energy: how much a frame differs from the one before; a baseline that learns nothing."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, PositiveInt

from .base import Bag, Config, Scores
from .cells import blocks, cell_means, pictures
from .unlearned import Unlearned


class MotionEnergyConfig(Config):
    """Settings of `motion_energy`."""

    cells: tuple[PositiveInt, PositiveInt] = Field(
        default=(24, 36), description="(rows, columns) of the map"
    )


class MotionEnergy(Unlearned[MotionEnergyConfig]):
    """The mean squared difference from the frame before, in grey values squared."""

    name: ClassVar[str] = "motion_energy"
    version: ClassVar[int] = 1
    words: ClassVar[str] = "a lot moves in the picture"
    Config: ClassVar[type[Config]] = MotionEnergyConfig

    @property
    def needs(self) -> tuple[str, ...]:
        """Pictures of every frame; small ones do."""
        return ("pixels",)

    @property
    def maps(self) -> tuple[str, ...]:
        """The mean squared difference of each cell."""
        return ("energy",)

    def score(self, bag: Bag) -> Scores:
        """Score each frame; the first one has the score of the second one, or 0 if it is alone.

        Raises:
            DetectorError: the bag has no pictures.
        """
        track = pictures(bag, "pixels", 3)
        height, width, channels = track.array.shape[1:]
        score = np.zeros(len(track))
        rows, columns = min(self.config.cells[0], height), min(self.config.cells[1], width)
        energy = np.zeros((len(track), rows, columns), np.float32)
        for first, block in blocks(track, before=1):
            wide = block.astype(np.int32)
            change = wide[1:] - wide[:-1]  # row i: frame first + i + 1
            squares = (change * change).sum(-1)
            here = slice(first + 1, first + len(block))
            score[here] = squares.sum((1, 2)) / (height * width * channels)
            energy[here] = cell_means(squares, self.config.cells) / channels
        if len(track) > 1:
            score[0], energy[0] = score[1], energy[1]
        return Scores(track.frame_start, track.frame_stop, {"score": score}, {"energy": energy})
