"""What a detector returned, against what it declares: the one place where this is checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...data_manifests.errors import VadpipeError
from ...detectors.base import Detector, Scores
from .regions import checked_regions


class OutputError(VadpipeError, ValueError):
    """A detector returned other columns, maps or regions than it declares."""


def checked_scores(detector: Detector[Any], scores: Scores) -> Scores:
    """The scores of one video in the declared order of columns, with regions as they are stored.

    Raises:
        OutputError: columns, maps or regions are not those that the detector declares.
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
    return replace(scores, regions=checked_regions(scores.regions))


def checked_columns(detector: Detector[Any], scores: Scores) -> Scores:
    """Scores in the declared order of columns; maps and regions are not looked at.

    Raises:
        OutputError: there are other columns than the detector declares.
    """
    if sorted(scores.columns) != sorted(detector.columns):
        raise OutputError(
            f"{detector.name} returned the columns {', '.join(scores.columns)}; it declares: "
            f"{', '.join(detector.columns)}"
        )
    return replace(scores, columns={name: scores.columns[name] for name in detector.columns})
