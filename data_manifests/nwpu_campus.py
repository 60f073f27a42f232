"""NWPU Campus: 547 videos of 43 scenes, 305 normal ones for training and 242 for testing.

    NWPUCampusDataset/
      videos/
        Train/D001_01.avi ...                305
        Test/D001_01.avi ...                 242
      groundtruth/NWPU_Campus_gt.npz         a 0 / 1 a frame for each test video, by its name

The label file may also lie at the root, or be called `gt.npz`. The name begins with the scene.

Source: C. Cao, Y. Lu, P. Wang, Y. Zhang, "A New Comprehensive Benchmark for Semi-supervised Video
Anomaly Detection and Anticipation", CVPR 2023. Nothing of the data comes with this package.
"""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np

from .counts import check_totals
from .intervals import Ranges, from_labels
from .natural_order import natural_key
from .record import Manifest, ManifestError, VideoRecord, check_count

OBTAIN = "The videos and NWPU_Campus_gt.npz are linked from https://campusvad.github.io/."
Split = Literal["train", "test"]
N_TEST = 242
FOLDERS = (".", "NWPUCampusDataset")
LABELS = ("groundtruth/NWPU_Campus_gt.npz", "NWPU_Campus_gt.npz", "groundtruth/gt.npz", "gt.npz")
NAME = re.compile(r"(D[0-9]{3})_[0-9]{2,3}")
MOST_BYTES = 1 << 28  # of all label vectors: the test videos have 0.4 M frames


def build(root: Path, *, subset: bool = False) -> Manifest:
    """Make the manifest of NWPU Campus; ids are the names of the files without suffix.

    A training video that has the name of a test video is called `train_` and its name.

    Args:
        root:
            The folder of the data set, or its parent.
        subset:
            Accept that videos are missing; those that exist are checked.

    Raises:
        ManifestError: folders or labels are missing, a name is unknown, or totals are not the
            official ones.
    """
    root = Path(os.path.realpath(root))
    base = next((root / f for f in FOLDERS if (root / f / "videos" / "Train").is_dir()), None)
    if base is None or not (base / "videos" / "Test").is_dir():
        raise ManifestError(f"{root} is not NWPU Campus: it has no videos/Train and videos/Test")
    names: dict[Split, list[str]] = {
        "train": _names(base / "videos" / "Train"),
        "test": _names(base / "videos" / "Test"),
    }
    labels = read_labels(base)
    unknown = sorted(set(names["test"]) - labels.keys())
    if unknown:
        raise ManifestError(f"{base}: there are no labels of {', '.join(unknown[:10])}")
    if not subset:
        check_count(f"{base}: test videos", len(names["test"]), N_TEST)
    records = []
    for split, folder in (("train", "Train"), ("test", "Test")):
        for name in names["train" if split == "train" else "test"]:
            clash = split == "train" and name in names["test"]
            anomalies, n_frames = ((), None) if split == "train" else labels[name]
            facts = {
                "video_id": f"train_{name}" if clash else name,
                "path": f"videos/{folder}/{name}.avi",
                "split": split,
                "label": int(bool(anomalies)),
                "scene": name.partition("_")[0],
                "expected_frames": n_frames,
                "anomalies": anomalies,
            }
            records.append(VideoRecord.model_validate(facts))
    if not records:
        raise ManifestError(f"{base} holds no video of NWPU Campus")
    manifest = Manifest(dataset="nwpu_campus", root=str(base), records=tuple(records))
    return manifest if subset else check_totals(manifest)


def read_labels(base: Path) -> dict[str, tuple[Ranges, int]]:
    """Name of a test video -> its abnormal frames and its number of frames.

    Raises:
        ManifestError: there is no label file, or it is no archive of label vectors.
    """
    path = next((base / place for place in LABELS if (base / place).is_file()), None)
    if path is None:
        raise ManifestError(f"{base} has no labels: looked for {', '.join(LABELS)}")
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(info.file_size for info in archive.infolist())
        if claimed > MOST_BYTES:
            raise ManifestError(f"{path} claims {claimed:,} bytes of labels; refused")
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                vector = np.asarray(arrays[name]).reshape(-1)
                found[name.partition(".")[0]] = (from_labels(vector), len(vector))
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error
    except Exception as error:  # a damaged zip can raise almost any error
        raise ManifestError(f"{path} is not an archive of label vectors: {error}") from error
    return found


def _names(folder: Path) -> list[str]:
    names = sorted((p.stem for p in folder.glob("*.avi")), key=natural_key)
    wrong = [name for name in names if not NAME.fullmatch(name)]
    if wrong:
        raise ManifestError(f"{folder}: {', '.join(wrong[:10])} is no video of NWPU Campus")
    return names
