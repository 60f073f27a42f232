"""Region and track criteria, RBDC and TBDC: boxes with scores against labelled tracks.

After B. Ramachandra and M. Jones, "Street Scene", WACV 2020, as the public evaluation code of
M.-I. Georgescu et al. (AED) measures it. Conventions are in docs/evaluation.md.

Boxes are x0, y0, x1, y1 in pixels, with x1 and y1 one past the box. Files that count the last pixel
in, as that code does, are converted when they are read; overlaps are then the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data_manifests.tracks import TrackFile, Tracks
from ..scores.frames import MetricsError
from ..scores.scored_boxes import ScoredBoxes
from .frame_level import thin_points
from .results import RegionCurve, RegionMetrics

ALPHA = 0.1  # share of a track's regions that have to be found
BETA = 0.1  # overlap (intersection over union) from which on a box finds a region
PAIRS = 2_000_000  # boxes compared at once
CURVE_POINTS = 500  # enough for a drawn curve


@dataclass(frozen=True)
class RegionCurves:
    """Rates after each detection, the highest score first; the first point is (0, 0, 0).

    If fewer false alarms were raised than there are frames, the last rates are repeated at 1.

    Attributes:
        fpr: (k,) false alarms over frames, ascending; it may go beyond 1.
        rbdr: (k,) share of the regions that were found.
        tbdr: (k,) share of the tracks that were found.
        n_regions: labelled regions.
        n_tracks: labelled tracks.
        n_false: detections that overlap no region.
        n_matched: detections that find a region first.
        n_neutral: detections that overlap only regions found before: neither right nor wrong.
        regions_found: regions found by any detection.
        tracks_found: tracks found by all detections.
    """

    fpr: NDArray[np.float64]
    rbdr: NDArray[np.float64]
    tbdr: NDArray[np.float64]
    n_regions: int
    n_tracks: int
    n_false: int
    n_matched: int
    n_neutral: int
    regions_found: int
    tracks_found: int

    @property
    def rbdc(self) -> float:
        """Area under the rate of found regions, up to one false alarm a frame."""
        return self._area(self.rbdr)

    @property
    def tbdc(self) -> float:
        """Area under the rate of found tracks, up to one false alarm a frame."""
        return self._area(self.tbdr)

    def _area(self, rate: NDArray[np.float64]) -> float:
        kept = self.fpr <= 1.0
        return float(np.trapezoid(rate[kept], self.fpr[kept]))


def region_metrics(
    tracks: Mapping[str, Tracks],
    detections: Mapping[str, ScoredBoxes],
    n_frames: int,
    *,
    n_videos: int,
    boxes: str,
    source: TrackFile,
    left_out: tuple[str, ...] = (),
) -> RegionMetrics:
    """RBDC, TBDC and what they are made of, see `region_curves`.

    Args:
        tracks:
            Labelled regions of each video.
        detections:
            Scored boxes of each video.
        n_frames:
            Frames of all videos.
        n_videos:
            Kept in the result.
        boxes:
            What the boxes are, kept in the result.
        source:
            Where the tracks come from, kept in the result.
        left_out:
            Kept in the result.

    Raises:
        MetricsError: there are no regions.
    """
    found = region_curves(tracks, detections, n_frames)
    inside = np.flatnonzero(found.fpr <= 1.0)
    kept = inside[
        thin_points(found.fpr[inside] + found.rbdr[inside] + found.tbdr[inside], CURVE_POINTS)
    ]
    counted = ("n_regions", "n_tracks", "n_false", "n_matched", "n_neutral", "regions_found")
    return RegionMetrics(
        rbdc=found.rbdc,
        tbdc=found.tbdc,
        n_videos=n_videos,
        n_frames=n_frames,
        n_detections=sum(map(len, detections.values())),
        **{name: getattr(found, name) for name in counted},
        tracks_found=found.tracks_found,
        alpha=ALPHA,
        beta=BETA,
        boxes=boxes,
        tracks=source.source,
        tracks_sha256=source.sha256,
        left_out=left_out,
        curve=RegionCurve(
            **{name: tuple(getattr(found, name)[kept].tolist()) for name in ("fpr", "rbdr", "tbdr")}
        ),
    )


def region_curves(
    tracks: Mapping[str, Tracks],
    detections: Mapping[str, ScoredBoxes],
    n_frames: int,
    *,
    alpha: float = ALPHA,
    beta: float = BETA,
) -> RegionCurves:
    """Measure scored boxes against labelled tracks.

    Boxes are taken by descending score. Equal scores are taken in the order of the video ids,
    then in the order in which each video's boxes stand. A detection that overlaps no region of its
    frame is a false alarm. One that overlaps regions finds those that were not found before. If a
    track has several regions in one frame, the last one counts.

    Args:
        tracks:
            Labelled regions of each video; a video may have none.
        detections:
            Scored boxes of each video; a video may have none.
        n_frames:
            Frames of all videos, with or without labels.
        alpha:
            Share of a track's regions from which on it counts as found.
        beta:
            Intersection over union from which on a detection finds a region.

    Raises:
        MetricsError: there are no regions or no frames, or alpha or beta is not in (0, 1].
    """
    if not (0 < alpha <= 1 and 0 < beta <= 1):
        raise MetricsError(f"alpha {alpha} and beta {beta} have to be above 0 and at most 1")
    names = sorted({*tracks, *detections})
    truth = _Regions.of(tracks, names)
    if not len(truth.place) or n_frames < 1:
        raise MetricsError(
            f"{len(truth.place)} labelled regions in {n_frames} frames: none to find"
        )
    found_by, overlaps = _match(truth, detections, names, beta)
    k = len(overlaps)
    found = found_by < k
    lengths = np.bincount(truth.track)
    tracks_found_by = _track_ranks(truth.track, found_by, lengths, k, alpha)
    matched = np.zeros(k, dtype=bool)
    matched[found_by[found]] = True

    def rate(steps: NDArray[Any], total: int) -> NDArray[np.float64]:
        return np.concatenate([[0.0], np.cumsum(steps) / total])

    fpr = rate(~overlaps, n_frames)
    rbdr = rate(np.bincount(found_by[found], minlength=k), len(truth.track))
    tbdr = rate(np.bincount(tracks_found_by[tracks_found_by < k], minlength=k), len(lengths))
    if fpr[-1] < 1.0:
        fpr, rbdr, tbdr = (
            np.append(v, e) for v, e in ((fpr, 1), (rbdr, rbdr[-1]), (tbdr, tbdr[-1]))
        )
    return RegionCurves(
        fpr=fpr,
        rbdr=rbdr,
        tbdr=tbdr,
        n_regions=len(truth.track),
        n_tracks=len(lengths),
        n_false=int((~overlaps).sum()),
        n_matched=int(matched.sum()),
        n_neutral=int((overlaps & ~matched).sum()),
        regions_found=int(found.sum()),
        tracks_found=int((tracks_found_by < k).sum()),
    )


@dataclass(frozen=True)
class _Regions:
    """Labelled regions of all videos, sorted by video and frame.

    Attributes:
        place: (n, 2) number of the video, frame.
        track: (n,) number of the track, from 0, over all videos.
        box: (n, 4).
    """

    place: NDArray[np.int64]
    track: NDArray[np.int64]
    box: NDArray[np.float64]

    @classmethod
    def of(cls, tracks: Mapping[str, Tracks], names: list[str]) -> _Regions:
        parts = [(i, tracks[name]) for i, name in enumerate(names) if name in tracks]
        if not parts:
            return cls(np.zeros((0, 2), np.int64), np.zeros(0, np.int64), np.zeros((0, 4)))
        video = np.concatenate([np.full(len(part.frame), i) for i, part in parts])
        frame = np.concatenate([part.frame for _, part in parts])
        own = np.concatenate([part.track_id for _, part in parts])
        box = np.concatenate([part.box for _, part in parts])
        # The last row of a track in a frame: the first one when read from the end.
        keys = np.stack([video, frame, own], axis=1)[::-1]
        unique, last = np.unique(keys, axis=0, return_index=True)
        _, track = np.unique(unique[:, [0, 2]], axis=0, return_inverse=True)
        return cls(unique[:, :2], track.reshape(-1), box[::-1][last])


def _match(
    truth: _Regions, detections: Mapping[str, ScoredBoxes], names: list[str], beta: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Compare each detection with the regions of its frame.

    Returns:
        (n,) rank of the first detection that overlaps a region, k where none does; and (k,) by
        rank, whether a detection overlaps any.
    """
    parts = [(i, detections[name]) for i, name in enumerate(names) if name in detections]
    if not parts:
        return np.zeros(len(truth.track), np.int64), np.zeros(0, bool)
    video = np.concatenate([np.full(len(part.frame), i) for i, part in parts])
    order = np.argsort(-np.concatenate([part.score for _, part in parts]), kind="stable")
    frame = np.concatenate([part.frame for _, part in parts])
    box = np.concatenate([part.box for _, part in parts])[order]
    # One number for each (video, frame) that has a region; other frames fall between them.
    span = int(max(truth.place[:, 1].max(), frame.max(initial=0))) + 1
    regions = truth.place[:, 0] * span + truth.place[:, 1]  # ascending
    here = (video * span + frame)[order]
    first, stop = np.searchsorted(regions, here), np.searchsorted(regions, here, side="right")
    found_by = np.full(len(regions), len(here), np.int64)
    overlaps = np.zeros(len(here), dtype=bool)
    with_regions = np.flatnonzero(stop > first)
    pairs = np.cumsum(stop[with_regions] - first[with_regions])
    cuts = np.searchsorted(pairs, np.arange(PAIRS, pairs[-1] if len(pairs) else 0, PAIRS))
    for ranks in np.split(with_regions, cuts):
        count = stop[ranks] - first[ranks]
        rank = np.repeat(ranks, count)
        offset = np.arange(len(rank)) - np.repeat(np.cumsum(count) - count, count)
        region = np.repeat(first[ranks], count) + offset
        hit = overlap(box[rank], truth.box[region]) >= beta
        np.minimum.at(found_by, region[hit], rank[hit])
        overlaps[rank[hit]] = True
    return found_by, overlaps


def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes, pair by pair.

    Args:
        a:
            (n, 4) x0, y0, x1, y1, none empty.
        b:
            (n, 4), as `a`.

    Returns:
        (n,) from 0 to 1.
    """
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = np.maximum(high - low, 0.0).prod(axis=1)
    areas = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1)
    return np.asarray(shared / (areas - shared))


def _track_ranks(
    track: NDArray[np.int64],
    found_by: NDArray[np.int64],
    lengths: NDArray[np.int64],
    k: int,
    alpha: float,
) -> NDArray[np.int64]:
    """(tracks,) rank of the detection that completes the needed share of each; k if none does."""
    order = np.lexsort((found_by, track))
    ranks = np.split(found_by[order], np.cumsum(lengths)[:-1])
    found = np.full(len(lengths), k, np.int64)
    for number, (length, own) in enumerate(zip(lengths, ranks, strict=True)):
        enough = np.flatnonzero(np.arange(1, length + 1) / length >= alpha)[0]
        found[number] = own[enough]
    return found
