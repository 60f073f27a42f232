"""Yards: a folder of normal videos, a folder of test videos, and a list of events.

root/
  normal/monday.mp4 ...     for training; a folder of pictures is a video too
  test/gate/000.png ...
  events.csv                gate,16,32: the name without suffix, first frame, one past the last
"""

from __future__ import annotations

import csv
from pathlib import Path

from vadpipe.data_manifests import Manifest, ManifestError, VideoRecord


def build(root: Path, *, events: str = "events.csv") -> Manifest:
    """Make the manifest of yards.

    Args:
        root:
            The folder that holds `normal` and `test`.
        events:
            Name of the list of events, in the root. A test video that is not in it is normal.

    Raises:
        ManifestError: a folder or the list is missing, or a line cannot be read.
    """
    known = _read_events(root / events)
    records = []
    for split, folder in (("train", "normal"), ("test", "test")):
        paths = sorted((root / folder).glob("[!.]*"))
        if not paths:
            raise ManifestError(f"{root / folder} has no videos: check the folder of the data set")
        for path in paths:
            anomalies = tuple(sorted(known.pop(path.stem, []))) if split == "test" else ()
            values = {
                "video_id": path.stem,
                "path": f"{folder}/{path.name}",
                "split": split,
                "label": int(bool(anomalies)),
                "anomalies": anomalies,
            }
            records.append(VideoRecord.model_validate(values))
    if known:
        raise ManifestError(
            f"{root / events} names videos that are not in test: {', '.join(known)}"
        )
    return Manifest(dataset="yards", root=str(root.resolve()), records=tuple(records))


def _read_events(path: Path) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for name, start, stop in csv.reader(file):
                found.setdefault(name, []).append((int(start), int(stop)))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} is no list of NAME,START,STOP: {error}") from error
    return found
