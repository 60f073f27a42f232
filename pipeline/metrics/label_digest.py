"""A digest of frame labels: two measurements of other labels are told apart by it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def digest_of_labels(label: NDArray[Any]) -> str:
    """SHA-256 of the labels of a video, frame by frame.

    Args:
        label:
            (n,) 0 or 1; of the frames that were measured, without padding.

    Returns:
        64 hex digits, of the number of frames (8 bytes, little-endian) and the packed bits.
    """
    head = len(label).to_bytes(8, "little")
    return hashlib.sha256(head + np.packbits(np.asarray(label, bool)).tobytes()).hexdigest()


def joined_digest(videos: Iterable[tuple[str, str]]) -> str:
    """SHA-256 of the labels of several videos, whatever their order.

    Args:
        videos:
            Id and `digest_of_labels` of each.
    """
    lines = "".join(f"{digest} {video_id}\0" for video_id, digest in sorted(videos))
    return hashlib.sha256(lines.encode()).hexdigest()
