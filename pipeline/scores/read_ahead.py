"""The features of a video in memory, before its detector asks for them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ...detectors.base import Bag, Detector, Track

READ_BYTES = 128 << 20  # of one video; more stays on disk until the detector reads it


def read_ahead(detector: Detector[Any], bag: Bag, most: int = READ_BYTES) -> Bag:
    """Read what `Detector.score` will read of a video, where that is known and not too much.

    Args:
        detector:
            Whose `reads_whole` says whether it reads all rows of the roles that it needs.
        bag:
            Of the video.
        most:
            Bytes.

    Returns:
        The same bag, whose tracks may lie in memory.

    Raises:
        DetectorError: the bag lacks a role.
        StoreError: features are damaged.
    """
    if not detector.reads_whole:
        return bag
    tracks = {name: track for role in detector.needs for name, track in bag.role(role).items()}
    if sum(map(_size, tracks.values())) > most:
        return bag
    read = {name: replace(track, array=track.rows()) for name, track in tracks.items()}
    return replace(bag, tracks={**bag.tracks, **read})


def _size(track: Track) -> int:
    return math.prod(track.array.shape) * track.array.dtype.itemsize
