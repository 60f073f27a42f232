"""PETS 2009 as features: 27 scenes, each seen by four cameras. There is no footage.

The release has pickled lists, which are never loaded. This module reads a repacked form: one
archive of plain arrays for each split and view (docs/datasets/pets2009.md shows how to make it):

    pets2009-train-view-001.npz    13 scenes, 4 of them abnormal
    pets2009-test-view-001.npz     14 scenes, 4 of them abnormal
    ...                            views 002, 003, 004
      NNN_x      (n, 1024) float32, Inception-I3D features of 16-frame snippets
      NNN_yf     (n, 16) 0 / 1, one label a frame
      NNN_name   the name of the scene

Source: S. S. L. Pereira, J. E. B. Maia, "A MIL Approach for Anomaly Detection in Surveillance
Videos from Multiple Camera Views", arXiv 2307.00562. Data: PETS 2009 benchmark, University of
Reading.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .intervals import from_labels
from .record import ID_PATTERN, Manifest, ManifestError, VideoRecord, check_count

OBTAIN = "The archives of features are in the repository of arXiv 2307.00562."
VIEWS = 4
VIDEOS: dict[Literal["train", "test"], int] = {"train": 13, "test": 14}  # of each view
SNIPPET = 16  # frames
MAX_BYTES = 1 << 30  # of one archive, unpacked
_NAME = re.compile(r"(?:.*[-_.])?(train|test)-(view-[0-9]{3})")
_MEMBER = re.compile(r"([0-9]{1,6})_(x|yf|name)\.npy")


@dataclass(frozen=True)
class ArchivedVideo:
    """One scene in an archive.

    Attributes:
        number: the digits before the names of its arrays.
        video_id: `view-001.S1.L3-running--Time-14-33`.
        name: name of the scene.
        labels: (n * 16,) 0 / 1.
    """

    number: str
    video_id: str
    name: str
    labels: NDArray[Any]


def build(root: Path, *, subset: bool = False) -> Manifest:
    """Make the manifest of PETS 2009; all paths are None, because there are only features.

    Args:
        root:
            The folder of the eight archives.
        subset:
            Accept that archives are missing.

    Raises:
        ManifestError: there are no archives; one is missing, cannot be read, or has other videos
            than the release; or a video is listed twice.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(root.glob("*.npz")) if root.is_dir() else ():
        match = _NAME.fullmatch(path.stem)
        if match:
            if (match[1], match[2]) in found:
                raise ManifestError(f"{root}: two archives are {match[1]}-{match[2]}")
            found[match[1], match[2]] = path
    wanted = [(split, f"view-{v:03d}") for split in VIDEOS for v in range(1, VIEWS + 1)]
    missing = ["-".join(part) for part in wanted if part not in found]
    if not found or (missing and not subset):
        raise ManifestError(
            f"{root} is not PETS 2009: {', '.join(missing)} missing among files called "
            "pets2009-SPLIT-view-NNN.npz" + ("; add them, or ask for a subset" if found else "")
        )
    records = []
    for split in VIDEOS:
        for (which, view), path in sorted(found.items()):
            if which == split:
                videos = read_archive(path)
                check_count(f"{path.name}: videos", len(videos), VIDEOS[split])
                records += [_record(video, split, view) for video in videos]
    ids = [record.video_id for record in records]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise ManifestError(f"{root}: {', '.join(twice[:10])} is listed twice")
    return Manifest(dataset="pets2009", root=str(root), records=tuple(records))


def is_archive(members: Sequence[str]) -> bool:
    """Tell from the names of its members whether an npz archive is one of PETS 2009."""
    kinds = {m[2] if (m := _MEMBER.fullmatch(name)) else None for name in members}
    return {"x", "yf"} <= kinds and None not in kinds


def read_archive(path: Path) -> list[ArchivedVideo]:
    """Read the scenes of one archive, in its order; of the features only the length is used.

    Raises:
        ManifestError: the archive cannot be read or is too large, or an array is missing or has
            another shape.
    """
    view = m[2] if (m := _NAME.fullmatch(path.stem)) else path.stem
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_BYTES:
            raise ManifestError(
                f"{path.name}: {size:,} bytes unpacked, more than {MAX_BYTES:,}: refused"
            )
        with np.load(path, allow_pickle=False) as arrays:
            numbers = [m[1] for name in arrays.files if (m := _MEMBER.fullmatch(f"{name}.npy"))]
            return [_video(path, view, number, arrays) for number in dict.fromkeys(numbers)]
    except ManifestError:
        raise
    except Exception as error:  # zip, zlib and npy each have errors of their own
        raise ManifestError(f"{path.name}: cannot be read: {error}") from error


def _video(path: Path, view: str, number: str, arrays: Any) -> ArchivedVideo:
    where = f"{path.name}, {number}"
    lacking = [kind for kind in ("x", "yf", "name") if f"{number}_{kind}" not in arrays]
    if lacking:
        raise ManifestError(f"{where}: has no array {number}_{lacking[0]}")
    labels, rows = arrays[f"{number}_yf"], len(arrays[f"{number}_x"])
    if labels.shape != (rows, SNIPPET) or not rows:
        raise ManifestError(f"{where}: labels are {labels.shape} for {rows} snippets of {SNIPPET}")
    name = str(arrays[f"{number}_name"])
    video_id = f"{view}.{name}"
    if not ID_PATTERN.fullmatch(video_id):
        raise ManifestError(f"{where}: {name!r} is not the name of a scene")
    return ArchivedVideo(number, video_id, name, labels.reshape(-1))


def _record(video: ArchivedVideo, split: Literal["train", "test"], view: str) -> VideoRecord:
    try:
        anomalies = from_labels(video.labels)
    except ManifestError as error:
        raise ManifestError(f"{video.video_id}: {error}") from error
    return VideoRecord(
        video_id=video.video_id,
        path=None,
        split=split,
        label=1 if anomalies else 0,
        scene=view,
        expected_frames=len(video.labels),
        anomalies=anomalies,
    )
