"""What a detector returned, against what it declares: the one place where this is checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from ...data_manifests.errors import VadpipeError
from ...detectors.base import Detector, Scores
from .regions import checked_regions

WAITING_BYTES = 64 << 20  # of maps of a video


class OutputError(VadpipeError, ValueError):
    """A detector returned other columns, maps or regions than it declares."""


def large(scores: Scores) -> bool:
    """Whether scores, with their maps, are too much to wait for while the next ones are made."""
    return sum(values.nbytes for values in scores.maps.values()) > WAITING_BYTES


def checked_scores(detector: Detector[Any], scores: Scores, n_frames: int | None = None) -> Scores:
    """The scores of one video in the declared order of columns, with regions as they are stored.

    Args:
        detector:
            What declares them.
        scores:
            What it returned.
        n_frames:
            Of the video: no region is of a later frame. None: it is not known.

    Raises:
        OutputError: columns, maps or regions are not those that the detector declares, or rows are
            not in order of time.
        RegionError: regions are not of their schema.
    """
    scores = checked_columns(detector, scores)
    if unknown := sorted(set(scores.maps) - set(detector.maps)):
        raise OutputError(
            f"{detector.name} returned maps that it does not declare: {', '.join(unknown)}; it "
            f"declares: {', '.join(detector.maps) or 'none'}"
        )
    if (scores.regions is not None) != detector.regions:
        declared = "declares regions, but returned none"
        undeclared = "returned regions that it does not declare"
        raise OutputError(f"{detector.name} {declared if detector.regions else undeclared}")
    if scores.regions is None:
        return scores
    if not isinstance(scores.regions, pa.Table):
        kind = type(scores.regions).__name__
        raise OutputError(f"{detector.name} returned regions as {kind}; they have to be a pa.Table")
    regions = checked_regions(scores.regions)
    ends = [n_frames or 0, *scores.frame_stop[-1:].tolist()]
    if n_frames is not None and regions.num_rows and regions["frame"][-1].as_py() >= max(ends):
        raise OutputError(
            f"{detector.name} returned a region of frame {regions['frame'][-1]}; the video has "
            f"{n_frames} frames"
        )
    return replace(scores, regions=regions)


def checked_columns(detector: Detector[Any], scores: Scores) -> Scores:
    """Scores in the declared order of columns; maps and regions are not looked at.

    Raises:
        OutputError: these are no scores, there are other columns than the detector declares, or
            rows are not in order of time.
    """
    if not isinstance(scores, Scores):
        raise OutputError(
            f"{detector.name}: score has to return Scores; it returned {type(scores).__name__}"
        )
    if sorted(scores.columns) != sorted(detector.columns):
        raise OutputError(
            f"{detector.name} returned the columns {', '.join(scores.columns)}; it declares: "
            f"{', '.join(detector.columns)}"
        )
    start, stop = np.asarray(scores.frame_start), np.asarray(scores.frame_stop)
    whole = all(values.dtype.kind in "iu" or not len(values) for values in (start, stop))
    wrong = (start < 0).any() or (stop <= start).any() or (np.diff(start) < 0).any()
    if not whole or wrong or (np.diff(stop) < 0).any():
        raise OutputError(
            f"{detector.name} returned rows whose frames are not in order of time: frame_start and "
            "frame_stop are whole numbers that never decrease, from 0 on, and each row has a frame"
        )
    return replace(scores, columns={name: scores.columns[name] for name in detector.columns})
