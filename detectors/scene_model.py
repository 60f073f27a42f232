"""What a camera normally shows: its background, and how far normal footage strays from it.

Numbers are of `scene_checks`: rows of a video with grey pictures of 24 x 32 cells. Times are
seconds of the video, differences are grey values from 0 to 255.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

KEPT_ROWS = 256  # pictures of a training video that its background is taken from
MOST_ROWS = 2048  # of all videos of a camera
BLOCK_ROWS = 1024  # pictures that are converted to floats at once
FLOORS = (12.0, 0.15, 0.5)  # smallest limits: grey values, share of contrast, log of sharpness
CELL_FLOOR = 15.0  # grey values that a cell may differ from the background at least
MOVED_FLOOR = 0.1  # smallest limit of 1 - correlation with the edges of the background
MOVED_SECONDS = 2.0  # the median of so long: people who pass do not count
HIDDEN_SECONDS = 3.0  # an object may be hidden so long
STILL = 0.02  # grey values: a camera that works has more noise or motion than that
WHOLE = 0.5  # where more of the picture is foreground, it is no object

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """The rows of one video.

    Attributes:
        seconds: (n,) time of each row.
        brightness: (n,) mean grey value.
        contrast: (n,) standard deviation of the grey values.
        sharpness: (n,) logarithm of 1 + the variance of the Laplacian.
        change: (n,) mean absolute difference from the frame before.
        pictures: (n, rows, columns) uint8.
    """

    seconds: Floats
    brightness: Floats
    contrast: Floats
    sharpness: Floats
    change: Floats
    pictures: NDArray[np.uint8]


@dataclass(frozen=True)
class Summary:
    """What the background and the limits of a camera need of one video.

    Attributes:
        numbers: (n, 3) brightness, relative contrast, relative sharpness of each row.
        pictures: (k, rows, columns) uint8, at most `KEPT_ROWS` of them, evenly over the video.
    """

    numbers: Floats
    pictures: NDArray[np.uint8]

    @classmethod
    def of(cls, video: Measured) -> Summary:
        """Summarise a video."""
        return cls(_numbers(video), _even(video.pictures, KEPT_ROWS))


@dataclass(frozen=True)
class SceneModel:
    """Background and limits of one camera.

    Attributes:
        background: (rows, columns), the median picture.
        cells: (rows, columns), how far a cell may differ from it.
        usual: (3,) medians of brightness, relative contrast and relative sharpness.
        limits: (3,) how far below them normal footage went.
        ends: (3,) limits of `Watched`: moved, still, stay.
    """

    background: Floats
    cells: Floats
    usual: Floats
    limits: Floats
    ends: Floats

    SHAPES: ClassVar[Mapping[str, tuple[int | None, ...]]] = {
        "background": (None, None),
        "cells": (None, None),
        "usual": (3,),
        "limits": (3,),
        "ends": (3,),
    }

    @classmethod
    def of(cls, videos: Sequence[Summary], ends: Floats) -> SceneModel:
        """Take background and limits of the training videos of one camera.

        Args:
            videos:
                At least one.
            ends:
                (3,) smallest limits of `Watched`.
        """
        share = max(1, MOST_ROWS // len(videos))
        kept = np.concatenate([_even(video.pictures, share) for video in videos])
        pictures = kept[:MOST_ROWS].astype(np.float64)
        background = np.median(pictures, axis=0)
        off = np.abs(_as_bright(pictures, background) - background)
        numbers = np.concatenate([video.numbers for video in videos])
        usual = np.median(numbers, axis=0)
        return cls(
            background=background,
            # 1.4826 MAD is the standard deviation of a normal distribution.
            cells=np.maximum(4 * 1.4826 * np.median(off, axis=0), CELL_FLOOR),
            usual=usual,
            limits=np.maximum(usual - numbers.min(axis=0), FLOORS),
            ends=ends,
        )

    def reaching(self, videos: Sequence[Floats]) -> SceneModel:
        """Raise the limits of `Watched` to what these videos reach: (3,) each."""
        return replace(self, ends=np.maximum.reduce([self.ends, *videos]))

    def arrays(self) -> dict[str, Floats]:
        """Everything, by the names of `SHAPES`."""
        return {name: getattr(self, name) for name in self.SHAPES}


@dataclass(frozen=True)
class Watched:
    """What only the rows before a row can tell.

    Attributes:
        moved: (n,) 1 - correlation of the edges with those of the background, median of
            `MOVED_SECONDS`.
        still: (n,) seconds since the picture last changed.
        stay: (n, rows, columns) seconds since a cell and a neighbour became something else than
            the background and stayed that.
    """

    moved: Floats
    still: Floats
    stay: NDArray[np.float32]

    def most(self) -> Floats:
        """(3,) the largest value of each."""
        return np.array([self.moved.max(), self.still.max(), self.stay.max()], np.float64)


def watch(video: Measured, model: SceneModel) -> Watched:
    """Follow the rows of a video from its first one."""
    known = _edges(model.background[None])[0]
    blocks = range(0, len(video.pictures), BLOCK_ROWS)
    moved = np.concatenate(
        [1 - _correlation(_edges(video.pictures[a : a + BLOCK_ROWS]), known) for a in blocks]
    )
    return Watched(
        _running_median(moved, video.seconds, MOVED_SECONDS),
        _since((video.change > STILL) | _other_picture(video.pictures), video.seconds),
        _best_neighbour(_stays(video, model)),
    )


def deviations(video: Measured, model: SceneModel) -> dict[str, Floats]:
    """How far brightness, relative contrast and relative sharpness lie below the usual, >= 0."""
    below = np.maximum(model.usual - _numbers(video), 0.0)
    return dict(zip(("brightness", "contrast", "sharpness"), below.T, strict=True))


def _numbers(video: Measured) -> Floats:
    """(n, 3): brightness, contrast for the brightness, sharpness for the contrast.

    So darkness does not count as a covered lens, and a covered lens not as blur.
    """
    contrast = np.maximum(video.contrast, 1.0)
    relative = contrast / np.maximum(video.brightness, 1.0)
    sharpness = video.sharpness - 2 * np.log(contrast)
    return np.stack([video.brightness, relative, sharpness], axis=1)


def _even(pictures: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """At most so many pictures, evenly over the video."""
    places = np.unique(np.linspace(0, len(pictures) - 1, most).round().astype(int))
    found: NDArray[np.uint8] = pictures[places]
    return found


def _as_bright(pictures: Floats, background: Floats) -> Floats:
    """Pictures with the light of the background: divided by the median ratio of their cells."""
    ratio = np.median((pictures + 1) / (background + 1), axis=(1, 2), keepdims=True)
    return np.asarray(pictures / np.maximum(ratio, 1e-3), np.float64)


def _edges(pictures: NDArray[Any]) -> Floats:
    """(n, rows, columns) -> (n, 2, rows, columns): differences to the right and down."""
    pictures = pictures.astype(np.float64)
    right = np.diff(pictures, axis=2, append=pictures[:, :, -1:])
    down = np.diff(pictures, axis=1, append=pictures[:, -1:])
    return np.stack([right, down], axis=1)


def _correlation(edges: Floats, known: Floats) -> Floats:
    """Cosine of each row with the known edges; 1 where the background has no edges, so no check."""
    a, b = edges.reshape(len(edges), -1), known.ravel()
    if not b.any():
        return np.ones(len(a))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b)
    cosine: Floats = np.divide(a @ b, lengths, out=np.zeros(len(a)), where=lengths > 0)
    return cosine


def _running_median(values: Floats, seconds: Floats, width: float) -> Floats:
    """The median of the rows of the last `width` seconds."""
    first = np.searchsorted(seconds, seconds - width, side="left")
    return np.array([np.median(values[a : b + 1]) for b, a in enumerate(first)])


def _other_picture(pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(n,) whether a picture differs from the row before by more than rounding.

    Where files hold every frame twice, the frame before a row may always be the same one.
    """
    other = np.ones(len(pictures), bool)
    for i in range(1, len(pictures)):
        step = pictures[i].astype(np.int16) - pictures[i - 1]
        other[i] = np.abs(step).max() > 1
    return other


def _since(changed: NDArray[np.bool_], seconds: Floats) -> Floats:
    """Seconds since the row that last changed; since the first row where none has."""
    marked = changed.copy()
    marked[0] = True
    last = np.maximum.accumulate(np.where(marked, np.arange(len(marked)), 0))
    found: Floats = seconds - seconds[last]
    return found


def _stays(video: Measured, model: SceneModel) -> NDArray[np.float32]:
    """Seconds since each cell became something else than the background and stayed that.

    What is hidden for at most `HIDDEN_SECONDS`, by a passer-by or a flash, goes on afterwards.
    """
    start = np.full(model.background.shape, np.inf)  # when the cell became what it is
    held = np.zeros_like(start)  # what it became
    hidden = np.full_like(start, np.inf)  # since when it shows something else
    stay = np.zeros(video.pictures.shape, np.float32)
    for i, time in enumerate(video.seconds):
        alike = _as_bright(video.pictures[i : i + 1].astype(np.float64), model.background)[0]
        new = np.abs(alike - model.background) > model.cells
        if new.mean() > WHOLE:  # the light or the camera, no object
            new[:] = False
        seen = new & np.isfinite(start) & (np.abs(alike - held) <= model.cells)
        hidden = np.where(seen, np.inf, np.minimum(hidden, time))
        gone = ~seen & ((time - hidden > HIDDEN_SECONDS) | np.isinf(start))
        start[gone] = np.where(new[gone], time, np.inf)
        held[gone] = alike[gone]
        hidden[gone] = np.inf
        stay[i] = np.where(seen, time - start, 0.0)
    return stay


def _best_neighbour(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each cell, but no more than the largest of its four neighbours: one cell alone is noise."""
    most = np.zeros_like(values)
    np.maximum(most[:, 1:], values[:, :-1], out=most[:, 1:])
    np.maximum(most[:, :-1], values[:, 1:], out=most[:, :-1])
    np.maximum(most[:, :, 1:], values[:, :, :-1], out=most[:, :, 1:])
    np.maximum(most[:, :, :-1], values[:, :, 1:], out=most[:, :, :-1])
    return np.minimum(values, most, out=most)
