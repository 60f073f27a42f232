"""Street Scene: 46 normal training clips and 35 test clips of one street, 1280 x 720, 15 fps.

    StreetScene/
      Train/Train001/001.jpg ...             46 clips
      Test/
        Test001/001.jpg ...                  35 clips
        Test001/Test001_gt.txt               regions: picture, track, x, y, width, height

A region's line names the picture, its track, and its box by centre, width and height (see
`tracks.py`). A frame is abnormal if it has a region.

Source: B. Ramachandra, M. Jones, "Street Scene: A New Dataset and Evaluation Protocol for Video
Anomaly Detection", WACV 2020. Nothing of the data comes with this package.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

import numpy as np

from .counts import check_totals
from .intervals import from_labels
from .record import Manifest, ManifestError, VideoRecord, image_files
from .tracks import read_video_tracks

OBTAIN = (
    "Unpack Train.tgz and Test.tgz, linked from "
    "https://www.merl.com/research/highlights/video-anomaly-detection, into one folder."
)
Split = Literal["train", "test"]
CLIPS: dict[Split, int] = {"train": 46, "test": 35}
FOLDERS = (".", "StreetScene", "Street Scene", "street_scene")


def build(root: Path, *, subset: bool = False) -> Manifest:
    """Make the manifest of Street Scene: `Train001` ... `Train046`, `Test001` ... `Test035`.

    Args:
        root:
            The folder that holds `Train` and `Test`, or its parent.
        subset:
            Accept that clips are missing.

    Raises:
        ManifestError: folders, clips or track files are missing or unknown, a track file names a
            frame that its clip does not have, or totals are not the official ones.
    """
    root = Path(os.path.realpath(root))
    base = next((root / f for f in FOLDERS if (root / f / "Train" / "Train001").is_dir()), None)
    if base is None or not (base / "Test").is_dir():
        raise ManifestError(f"{root} is not Street Scene: it has no Train/Train001 and Test")
    records = []
    for split, n in CLIPS.items():
        name = split.capitalize()
        folders = {p.name for p in (base / name).iterdir() if p.is_dir()}
        expected = [f"{name}{number:03d}" for number in range(1, n + 1)]
        unknown = sorted(folders - set(expected))
        if unknown:
            raise ManifestError(f"{base / name}: {', '.join(unknown)} is no clip of Street Scene")
        missing = [clip for clip in expected if clip not in folders]
        if missing and not subset:
            raise ManifestError(f"{base / name}: {', '.join(missing)} is missing")
        records += [_record(base, split, f"{name}/{c}") for c in expected if c in folders]
    manifest = Manifest(dataset="street_scene", root=str(base), records=tuple(records))
    return manifest if subset else check_totals(manifest)


def _record(base: Path, split: Split, place: str) -> VideoRecord:
    clip = place.partition("/")[2]
    n_frames = len(image_files(base / place))
    if not n_frames:
        raise ManifestError(f"{clip}: {base / place} holds no pictures")
    facts = {
        "video_id": clip,
        "path": place,
        "split": split,
        "label": int(split == "test"),
        "scene": "street",
        "expected_frames": n_frames,
        "anomalies": (),
    }
    if split == "test":
        found = sorted(
            p.name for p in (base / place).iterdir() if re.fullmatch(r".*_gt\.txt", p.name)
        )
        if len(found) != 1:
            raise ManifestError(f"{clip}: {base / place} has {len(found)} files *_gt.txt, not one")
        tracks = read_video_tracks(base / place / found[0])
        if len(tracks) and int(tracks.frame.max()) >= n_frames:
            raise ManifestError(
                f"{clip}: {found[0]} names frame {int(tracks.frame.max()) + 1} of {n_frames}"
            )
        labels = np.zeros(n_frames, np.uint8)
        labels[tracks.frame] = 1
        facts |= {"tracks": f"{place}/{found[0]}", "anomalies": from_labels(labels)}
    return VideoRecord.model_validate(facts)
