"""Where in the frame anomalies are: masks and tracks, against the boxes of score folders."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data_manifests.masks import mask_areas
from ...data_manifests.record import Manifest, ManifestError
from ...data_manifests.tracks import TrackFile, manifest_tracks, read_tracks
from ..scores.boxes import boxes_of
from ..scores.folder import ScoreFolder
from ..scores.frames import MetricsError
from ..scores.map_detections import QUANTILE
from .regions import region_metrics
from .results import RegionMetrics

Areas = list[NDArray[np.float64] | None]


@dataclass(frozen=True)
class RegionChoice:
    """What region metrics compare, see docs/evaluation.md.

    Attributes:
        tracks: CSV or folder of labelled tracks; None takes those that the manifest names.
        map_name: a map whose components are the boxes; None takes the boxes of the detector, or its
            first map if it makes none.
        quantile: of the map's values; cells above it become boxes.
    """

    tracks: Path | None = None
    map_name: str | None = None
    quantile: float = QUANTILE


OWN_TRACKS = RegionChoice()


def stamp_of_places(manifest: Manifest) -> str | None:
    """A digest of the state of the masks and tracks that a manifest names, without reading them.

    It is another one after a file was written, added or taken away. None where none are named.
    """
    names = {n for r in manifest.records for n in (r.masks, r.tracks) if n is not None}
    if not names:
        return None
    states = [(name, _states(manifest, name)) for name in sorted(names)]
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()


def _states(manifest: Manifest, name: str) -> list[tuple[str, int, int]]:
    """Name, size and time of a file, or of those in a folder; empty where there is none."""
    try:
        path = manifest.resolve(name)
        if not path.is_dir():
            stat = path.stat()
            return [(path.name, stat.st_size, stat.st_mtime_ns)]
        with os.scandir(path) as entries:
            stats = [(entry.name, entry.stat()) for entry in entries]
    except (OSError, ManifestError):
        return []  # evaluating says why
    return sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


class Places:
    """The masks and tracks of a manifest, each read once for several score folders.

    Masks and tracks that the manifest names and that cannot be read leave metrics undefined. Tracks
    that were asked for by name have to be there.

    Args:
        manifest:
            Labels.
        choice:
            Which tracks and boxes.

    Raises:
        ManifestError: the tracks that were asked for cannot be read.
    """

    def __init__(self, manifest: Manifest, choice: RegionChoice) -> None:
        self.manifest = manifest
        self._choice = choice
        self._records = {record.video_id: record for record in manifest.records}
        self._areas: dict[str, NDArray[np.float64]] = {}
        self._tracks = None if choice.tracks is None else read_tracks(choice.tracks)

    def areas(self, videos: Sequence[Mapping[str, Any]]) -> tuple[Areas, dict[str, str]]:
        """The abnormal share of each measured frame, from the masks.

        Args:
            videos:
                Rows of a folder's table of videos, all in the manifest.

        Returns:
            (n,) of each video, None where it has no masks or is normal; and {"sizes": why} where
            masks cannot be used.
        """
        areas: Areas = []
        for row in videos:
            record = self._records[row["video_id"]]
            if record.masks is None or not record.anomalies:
                areas.append(None)
                continue
            try:
                if record.masks not in self._areas:
                    self._areas[record.masks] = mask_areas(self.manifest.resolve(record.masks))
            except ManifestError as error:
                return [None] * len(videos), {"sizes": str(error)}
            own = self._areas[record.masks]
            if len(own) != row["n_frames"]:
                why = f"{record.video_id} has {len(own)} masks for {row['n_frames']} frames"
                return [None] * len(videos), {"sizes": why}
            areas.append(own[row["frame_start"] : row["frame_stop"]])
        return areas, {}

    def regions(
        self, folder: ScoreFolder, videos: Sequence[Mapping[str, Any]]
    ) -> tuple[RegionMetrics | None, str | None]:
        """The boxes of a score folder against the tracks.

        Args:
            folder:
                Score folder.
            videos:
                Rows of its table of videos, all in the manifest.

        Returns:
            The metrics, or None and why there are none; None twice where there are no tracks.

        Raises:
            MetricsError: the tracks or the map that were asked for cannot be used.
            RegionError: boxes are damaged.
            StoreError: maps are damaged.
        """
        try:
            tracks = self._tracks or manifest_tracks(
                self.manifest, [self._records[row["video_id"]] for row in videos]
            )
        except ManifestError as error:
            return None, str(error)
        if tracks is None:
            return None, None
        known = [
            row
            for row in videos
            if row["video_id"] in tracks.tracks or not self._records[row["video_id"]].anomalies
        ]
        choice = self._choice
        boxes = boxes_of(folder, known, map_name=choice.map_name, quantile=choice.quantile)
        if boxes is None:
            return None, "the detector makes neither boxes nor maps"
        used = {row["video_id"]: row for row in known if row["video_id"] in boxes.of}
        inside = {
            name: tracks.tracks[name].between(row["frame_start"], row["frame_stop"])
            for name, row in used.items()
            if name in tracks.tracks
        }
        if not any(map(len, inside.values())):
            return self._without_regions(tracks)
        done = region_metrics(
            inside,
            boxes.of,
            sum(row["frame_stop"] - row["frame_start"] for row in used.values()),
            n_videos=len(used),
            boxes=boxes.what,
            source=tracks,
            left_out=tuple(row["video_id"] for row in videos if row["video_id"] not in used),
        )
        return done, None

    def _without_regions(self, tracks: TrackFile) -> tuple[None, str]:
        why = f"{tracks.source}: no region of a measured video"
        if self._tracks is not None:
            raise MetricsError(f"{why}; the names of videos there have to be those of the manifest")
        return None, why
