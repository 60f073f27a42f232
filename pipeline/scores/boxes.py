"""The scored boxes of a score folder: those of the detector, or those of one of its maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...data_manifests.choices import choices
from .folder import ScoreFolder
from .frames import MetricsError
from .map_detections import QUANTILE, map_detections, map_threshold
from .scored_boxes import ScoredBoxes


@dataclass(frozen=True)
class FolderBoxes:
    """The scored boxes of some videos.

    Attributes:
        of: video id -> its boxes, in the frames that were scored.
        what: what they are, in words.
        lacking: videos without boxes or maps.
    """

    of: Mapping[str, ScoredBoxes]
    what: str
    lacking: tuple[str, ...]


def boxes_of(
    folder: ScoreFolder,
    videos: Sequence[Mapping[str, Any]],
    *,
    map_name: str | None = None,
    quantile: float = QUANTILE,
) -> FolderBoxes | None:
    """The boxes of the detector if it makes any, else those of a map, see `map_detections`.

    Args:
        folder:
            Score folder.
        videos:
            Rows of its table of videos.
        map_name:
            Take this map, also where there are boxes; None takes the first map of the detector.
        quantile:
            Of the map's values: cells above it become boxes.

    Returns:
        None if the detector makes neither boxes nor maps.

    Raises:
        MetricsError: there is no map of this name, or a map cannot be used.
        RegionError: boxes are damaged.
        StoreError: maps are damaged.
    """
    if map_name is None:
        tables = {row["video_id"]: folder.regions(row["video_id"]) for row in videos}
        found = {
            row["video_id"]: ScoredBoxes.from_regions(table).between(*_frames(row))
            for row in videos
            if (table := tables[row["video_id"]]) is not None
        }
        if found:
            return FolderBoxes(found, "boxes of the detector", _lacking(videos, found))
    opened = {row["video_id"]: folder.maps(row["video_id"]) for row in videos}
    maps = {video_id: own for video_id, own in opened.items() if own is not None}
    names = list(dict.fromkeys(name for own in maps.values() for name in own.maps))
    if map_name is None and not names:
        return None
    name = names[0] if map_name is None else map_name
    if name not in names:
        raise MetricsError(f"{folder.path} has no map {name!r}; it has: {choices(names, name)}")
    used = {video_id: own for video_id, own in maps.items() if name in own.maps}
    threshold = map_threshold(used, name, quantile)
    cut = {}
    for row in videos:
        if row["video_id"] not in used:
            continue
        if not (row["height"] and row["width"]):
            raise MetricsError(
                f"{row['video_id']}: the size of its frames is unknown (there is no footage), so "
                "cells of a map have no place in pixels"
            )
        size = (row["height"], row["width"])
        cut[row["video_id"]] = map_detections(
            used[row["video_id"]], name, threshold, _frames(row), size
        )
    what = f"components of map {name} above {threshold:.4g}, its quantile {quantile:g}"
    return FolderBoxes(cut, what, _lacking(videos, cut))


def _frames(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["frame_start"], row["frame_stop"]


def _lacking(
    videos: Sequence[Mapping[str, Any]], found: Mapping[str, ScoredBoxes]
) -> tuple[str, ...]:
    return tuple(row["video_id"] for row in videos if row["video_id"] not in found)
