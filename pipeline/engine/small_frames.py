"""Which pictures of its footage a task reads: whole ones, or what its extractors resize them to."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ...extractors.footage.resizing import Resize
from ...extractors.footage.video import ProbeRow
from .extractor_spec import ExtractorSpec

# A decoding process loads torch before it resizes: two seconds of CPU time, in which the process of
# the network would resize the frames of about as many bytes. Short runs have nothing to gain.
LEAST_SAVED = 8 << 30


class Savings:
    """Bytes that pictures resized by decoders would have saved in this process so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0

    def pay(self, more: int) -> bool:
        """Count what a task would save; returns whether loading torch pays by now."""
        with self._lock:
            self._bytes += more
            return self._bytes >= LEAST_SAVED


_savings = Savings()


def small_frames(
    row: ProbeRow,
    specs: Sequence[ExtractorSpec],
    frames: int,
    savings: Savings = _savings,
) -> tuple[Resize, ...]:
    """The pictures that the decoder of a task returns of each frame.

    Args:
        row: the video.
        specs: the extractors that have spans to compute.
        frames: that the task reads.
        savings: of the process.

    Returns:
        One resize for each size that is needed. None at all where frames come as they are: an
        extractor needs them so, the small pictures together are larger, or the task is too short.
    """
    found: dict[Resize, None] = {}
    for spec in specs:
        resize = spec.resize_first(row.height, row.width)
        if resize is None:
            return ()
        found[resize] = None
    saved = row.height * row.width * 3 - sum(resize.nbytes for resize in found)
    if not found or saved <= 0 or not savings.pay(saved * frames):
        return ()
    return tuple(found)


def picture_of(spec: ExtractorSpec, row: ProbeRow, resizes: Sequence[Resize]) -> int:
    """The place of the picture that an extractor reads among those of a frame."""
    resize = spec.resize_first(row.height, row.width) if resizes else None
    return resizes.index(resize) if resize is not None else 0
