"""Convert anomaly labels of every published form to frame ranges, and to one label a frame.

The library uses one form: half-open, 0-based [start, stop) ranges, sorted and disjoint. Ranges that
overlap or touch are merged. Published forms are converted here:

    1-based inclusive   UCSD .m, ano_pred .mat     61:180   -> [60, 180)
    0-based inclusive   UCF-Crime, UBnormal        165 240  -> [165, 241)
    label vector        ShanghaiTech, NWPU         0 0 1 1  -> [2, 4)
    pixel masks         UCSD, Avenue               a frame is abnormal if any pixel is > 0

Nothing is clipped unless the caller asks for it, because a label beyond the end of a video most
often belongs to another video.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .masks import read_masks
from .record import ManifestError

Ranges = tuple[tuple[int, int], ...]


def from_inclusive(
    intervals: Iterable[Sequence[int]],
    *,
    first: Literal[0, 1],
    n_frames: int | None = None,
    clip: bool = False,
) -> Ranges:
    """Convert inclusive intervals to half-open, 0-based ranges.

    Intervals may come in any order. Those that overlap or touch are merged: a frame is abnormal or
    not, whatever the number of its events. No intervals become ().

    Args:
        intervals:
            Pairs (first abnormal frame, last abnormal frame).
        first:
            The number of a video's first frame: 1 in MATLAB files, 0 elsewhere.
        n_frames:
            Frames of the video, where known.
        clip:
            Cut the intervals to [0, n_frames) instead of raising; an interval that lies wholly
            outside is dropped.

    Raises:
        ManifestError: an interval is not a pair of integers, is reversed, or leaves the video.
    """
    ranges = []
    for interval in intervals:
        try:
            start, last = map(int, interval)
        except (TypeError, ValueError, OverflowError) as error:
            raise ManifestError(f"interval {interval} is not a pair of frame numbers") from error
        if (start, last) != tuple(interval):
            raise ManifestError(f"interval {interval} has a fraction of a frame, or text")
        if last < start:
            raise ManifestError(f"interval {start}..{last} ends before it starts")
        ranges.append((start - first, last - first + 1))
    return _merged(_inside(ranges, n_frames, clip))


def from_labels(labels: ArrayLike) -> Ranges:
    """Convert one 0 / 1 label a frame, (n,), to ranges.

    Raises:
        ManifestError: the vector is empty, not one-dimensional, or holds other values.
    """
    vector = np.asarray(labels)
    if vector.ndim != 1 or not len(vector):
        raise ManifestError(
            f"frame labels have shape {vector.shape}: they must be a vector with one label a frame"
        )
    wrong = np.flatnonzero(~np.isin(vector, (0, 1)))
    if len(wrong):
        raise ManifestError(
            f"frame labels must be 0 or 1, but frame {wrong[0]} has {vector[wrong[0]]!r} "
            f"({len(wrong)} such frames)"
        )
    edges = np.flatnonzero(np.diff(vector.astype(np.int8), prepend=0, append=0))
    return tuple((int(a), int(b)) for a, b in edges.reshape(-1, 2))


def mask_labels(masks: Path | Iterable[NDArray[Any]]) -> NDArray[np.uint8]:
    """Convert pixel masks to one label a frame: 1 where any pixel is > 0.

    Args:
        masks:
            A folder of one picture a frame (in natural order of the names), or the masks
            themselves: (n, H, W) or any iterable of (H, W), read one at a time.

    Returns:
        (n,) uint8.

    Raises:
        ManifestError: there are no masks, or one is empty, has negative values or cannot be read.
    """
    named = read_masks(masks) if isinstance(masks, Path) else enumerate(masks)
    labels = []
    for name, mask in named:
        mask = np.asarray(mask)
        if not mask.size or mask.dtype.kind not in "buif" or not (mask >= 0).all():
            raise ManifestError(f"mask {name} is empty or has values that are not 0 or more")
        labels.append(bool((mask > 0).any()))
    if not labels:
        raise ManifestError(f"no masks found in {masks}" if isinstance(masks, Path) else "no masks")
    return np.array(labels, dtype=np.uint8)


def frame_labels(
    anomalies: Iterable[tuple[int, int]], n_frames: int, *, clip: bool = False
) -> NDArray[np.uint8]:
    """Convert half-open ranges to one label a frame.

    Args:
        anomalies:
            As in `VideoRecord.anomalies`, but known: None is not accepted.
        n_frames:
            Frames of the video, by the decoder.
        clip:
            Cut the ranges to the video instead of raising.

    Returns:
        (n_frames,) uint8, 1 = abnormal.

    Raises:
        ManifestError: a range is empty, reversed, or leaves the video.
    """
    if n_frames < 1:
        raise ManifestError(f"a video cannot have {n_frames} frames")
    labels = np.zeros(n_frames, dtype=np.uint8)
    for start, stop in _inside(list(anomalies), n_frames, clip):
        labels[start:stop] = 1
    return labels


def _inside(ranges: list[tuple[int, int]], n_frames: int | None, clip: bool) -> Ranges:
    """Check the ranges against [0, n_frames), or cut them to it."""
    if clip and n_frames is None:
        raise ManifestError("clipping needs the number of frames: pass n_frames")
    for start, stop in ranges:
        if stop <= start:
            raise ManifestError(f"range [{start}, {stop}) holds no frame")
        if not clip and (start < 0 or (n_frames is not None and stop > n_frames)):
            raise ManifestError(
                f"frames [{start}, {stop}), counted from 0, reach out of a video of "
                f"{'unknown length' if n_frames is None else f'{n_frames} frames'}: check that "
                "labels and video belong together, or ask for clipping"
            )
    if n_frames is None:
        return tuple(ranges)
    cut = ((max(start, 0), min(stop, n_frames)) for start, stop in ranges)
    return tuple((start, stop) for start, stop in cut if start < stop)


def _merged(ranges: Ranges) -> Ranges:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)
