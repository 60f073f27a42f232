"""Read frames from the shards of a pixel source, with the interface of a decoder."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extractors.footage.decode import FrameReader
from ...extractors.footage.video import Frame, ProbeRow, Reading
from ..store.errors import StoreError
from ..store.shard import facts_at, numbers_of, opened_shard, row_frames
from ..store.sharded_array import Part, ShardedArray
from .sources import PixelSource

BLOCK = 32  # frames that are copied out of a map at once


def stored_frames(source: PixelSource, root: Path, row: ProbeRow, start: int = 0) -> FrameReader:
    """Frames of a video from `start` on, in order, to the end of the video; starts no process.

    Args:
        source:
            The feature set.
        root:
            Where its shards lie.
        row:
            The video as the source holds it.
        start:
            First frame.

    Returns:
        Frames of (height, width, 3) uint8 RGB. Their time is their number divided by the rate of
        the video: shards keep no times. A frame is marked `corrupt` where the decoder of the
        footage marked it. A shard of version 0.1 says only how many frames it marked; if there are
        any, all frames of that shard are marked.

    Raises:
        MissingSource: while reading: frames are missing before the end of the video.
        StoreError: while reading: a shard is damaged, or its rows are not one for each frame.
    """
    reading = Reading()
    return FrameReader(row, _frames(source, root, row, start, reading), reading)


def _frames(
    source: PixelSource, root: Path, row: ProbeRow, start: int, reading: Reading
) -> Generator[Frame, None, None]:
    for number, image, corrupt in _pictures(source, root, row.content_id, start):
        yield Frame(number, number / row.fps, image, corrupt)
    reading.at_end = True


def _pictures(
    source: PixelSource, root: Path, content_id: str, start: int
) -> Iterator[tuple[int, NDArray[np.uint8], bool]]:
    """Number, picture and damage of each frame from `start` on."""
    axis, name = source.array["dims"][0], source.array["name"]
    at, next_frame = start, start  # in planned frames, and in frames that were there
    for first, stop, path in source.store(root).shards(content_id):
        if stop <= at:
            continue
        if first > at:
            break
        numbers, damaged, last = _facts(path, axis)
        skipped = int(np.searchsorted(numbers, next_frame))
        wanted = numbers[skipped:]
        if not np.array_equal(wanted, np.arange(next_frame, next_frame + len(wanted))):
            raise StoreError(
                f"{path}: its rows are not one for each frame; see vadpipe cache verify"
            )
        pictures = ShardedArray([Part(path, 0, len(numbers))], axis, name)
        for low in range(skipped, len(numbers), BLOCK):
            block: NDArray[Any] = pictures[low : low + BLOCK]
            for number, image in zip(numbers[low : low + BLOCK].tolist(), block, strict=True):
                yield number, image, damaged is None or number in damaged
        next_frame += len(wanted)
        at = stop
        if last:
            return
    raise source.missing(content_id, at, root)


def _facts(path: Path, axis: str) -> tuple[NDArray[np.int64], frozenset[int] | None, bool]:
    """Frame numbers of the rows, those that are damaged (None: all), and whether it is the last."""
    with opened_shard(path) as file:
        facts = facts_at(file, path)
        numbers = row_frames(file, facts, axis).frame_start
        ranges = facts.damaged_frames
        damaged = None if facts.damaged and not ranges else numbers_of(ranges)
        return numbers, damaged, facts.last
