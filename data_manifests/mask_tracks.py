"""Tracks of anomalies derived from pixel masks, for data sets that publish no track files.

The rule: a region is an 8-connected component of a frame's mask with at least 20 pixels. Regions of
neighbouring frames are linked one to one, the largest overlap of their boxes first, if they overlap
by more than 0.1. A region without a link ends its track; nothing bridges a gap. Of equal overlaps,
the pair whose regions come first counts; regions of a frame are in the order of their first pixel,
row by row. Tracks are numbered from 0 by their first region.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .masks import abnormal_pixels
from .record import Manifest, ManifestError
from .tracks import Tracks

LEAST_PIXELS = 20
LEAST_OVERLAP = 0.1  # of boxes, intersection over union; a link needs more
EIGHT = np.ones((3, 3), dtype=bool)


def derive_tracks(
    masks: Iterable[NDArray[np.bool_]], *, least_pixels: int = LEAST_PIXELS
) -> tuple[Tracks, int]:
    """Derive the tracks of a video from its masks.

    Args:
        masks:
            One (H, W) a frame, from frame 0, True where a pixel is abnormal.
        least_pixels:
            Smaller components are no regions.

    Returns:
        The tracks, and the number of masks.
    """
    rows: list[tuple[float, ...]] = []
    before, ids = np.zeros((0, 4)), np.zeros(0, np.int64)
    n_tracks = n_masks = 0
    for frame, mask in enumerate(masks):
        boxes = components(mask, least_pixels).box
        links = _links(before, boxes)
        own = np.full(len(boxes), -1, np.int64)
        for earlier, later in links:
            own[later] = ids[earlier]
        fresh = own < 0
        own[fresh] = n_tracks + np.arange(fresh.sum())
        n_tracks += int(fresh.sum())
        rows += [(track, frame, *box) for track, box in zip(own.tolist(), boxes, strict=True)]
        before, ids = boxes, own
        n_masks = frame + 1
    return Tracks.from_rows(np.array(rows, np.float64).reshape(-1, 6)), n_masks


def tracks_of_masks(manifest: Manifest) -> dict[str, Tracks]:
    """Derive the tracks of all videos of a manifest that have masks; video id -> tracks.

    Raises:
        ManifestError: no video has masks, masks cannot be read, or a video has another number of
            them than frames.
    """
    tracks = {}
    for record in manifest.records:
        if record.masks is None:
            continue
        masks = abnormal_pixels(manifest.resolve(record.masks))
        tracks[record.video_id], n_masks = derive_tracks(masks)
        if record.expected_frames not in (None, n_masks):
            raise ManifestError(
                f"{record.video_id} has {n_masks} masks for {record.expected_frames} frames: get "
                "its masks again"
            )
    if not tracks:
        raise ManifestError(
            f"no video of {manifest.dataset} has pixel masks: tracks cannot be derived; use the "
            "track files of the data set"
        )
    return tracks


@dataclass(frozen=True)
class Components:
    """The connected parts of a mask, in the order of their first pixels, row by row.

    Attributes:
        box: (n, 4) float64: x0, y0, x1, y1, x1 and y1 one past the box.
        number: (n,) the value of each in `labels`.
        labels: (H, W), 0 where the mask is False.
    """

    box: NDArray[np.float64]
    number: NDArray[np.int64]
    labels: NDArray[np.int32]


def components(mask: NDArray[np.bool_], least_pixels: int = 1) -> Components:
    """Find the 8-connected components of a mask.

    Args:
        mask:
            (H, W).
        least_pixels:
            Smaller ones are left out.
    """
    if not mask.any():
        return Components(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(mask.shape, np.int32))
    from scipy import ndimage  # takes a while to import

    labels, n = ndimage.label(mask, structure=EIGHT)
    sizes = np.bincount(labels.reshape(-1), minlength=n + 1)[1:]
    slices = ndimage.find_objects(labels)
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in slices]
    kept = sizes >= least_pixels
    box = np.array(boxes, np.float64).reshape(-1, 4)
    return Components(box[kept], np.flatnonzero(kept) + 1, labels.astype(np.int32))


def _links(a: NDArray[np.float64], b: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs of boxes, one to one, by descending overlap."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.maximum(high - low, 0.0).prod(axis=2)  # (len(a), len(b))
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(axis=1) for box in (a, b))
    share = shared / (area_a[:, None] + area_b[None] - shared)
    links: list[tuple[int, int]] = []
    used_a, used_b = set[int](), set[int]()
    for place in np.argsort(-share, axis=None, kind="stable").tolist():
        i, j = divmod(place, len(b))
        if share[i, j] <= LEAST_OVERLAP:
            break
        if i not in used_a and j not in used_b:
            links.append((i, j))
            used_a.add(i)
            used_b.add(j)
    return links
