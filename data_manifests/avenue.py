"""CUHK Avenue: 16 normal training videos and 21 test videos of one walkway, 640 x 360.

The archive of the authors, or the repackaged one with JPEGs; masks may lie in the same folder:

    Avenue Dataset/                          avenue/
      training_videos/01.avi ... 16.avi        training/frames/01/0000.jpg ...
      testing_videos/01.avi ... 21.avi         testing/frames/01/0000.jpg ...
    ground_truth_demo/                         avenue.mat
      testing_label_mask/1_label.mat ...       frame_labels_avenue.npy

Two versions of the labels are published, with the same 15,324 frames; `labels` chooses one:

    masks           the authors' pixel masks: 3,712 abnormal frames; videos 8 and 18 throughout
    frame_labels    frame_labels_avenue.npy of the MNAD and LNTRA repositories: 3,867 abnormal
                    frames, none throughout
    intervals       avenue.mat of the repackaged archives: whichever of the two it equals in total

Source: C. Lu, J. Shi, J. Jia, "Abnormal Event Detection at 150 FPS in Matlab", ICCV 2013. Nothing
of the data comes with this package.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from .counts import OFFICIAL, check_totals
from .intervals import Ranges, from_inclusive, from_labels, mask_labels
from .mat_intervals import read_mat_intervals
from .npy_file import mapped_array
from .record import Manifest, ManifestError, VideoRecord, check_count, image_files

OBTAIN = (
    "The archive and the pixel masks (ground_truth_demo) are on "
    "http://www.cse.cuhk.edu.hk/leojia/projects/detectabnormal/dataset.html; "
    "frame_labels_avenue.npy is in the repositories of MNAD and LNTRA."
)
Labels = Literal["masks", "frame_labels", "intervals"]
N_TRAIN = 16
TEST_FRAMES = (
    *(1439, 1211, 923, 947, 1007, 1283, 605, 36, 1175, 841, 472),
    *(1271, 549, 507, 1001, 740, 426, 294, 248, 273, 76),
)
NAMES = ("avenue", "avenue_frame_labels")  # by version of the labels
FOLDERS = (".", "Avenue Dataset", "Avenue_Dataset", "avenue")
FOOTAGE = (
    ("training_videos/{:02d}.avi", "testing_videos/{:02d}.avi"),
    ("training/frames/{:02d}", "testing/frames/{:02d}"),
)
MASKS = ("ground_truth_demo/testing_label_mask/{}_label.mat", "testing_label_mask/{}_label.mat")
FRAME_LABELS, INTERVALS = "frame_labels_avenue.npy", "avenue.mat"
MOST_BYTES = 1 << 22  # of a file of frame labels


def build(
    root: Path, *, labels: Labels = "masks", footage: bool = True, subset: bool = False
) -> Manifest:
    """Make the manifest of Avenue: `Train01` ... `Train16`, `Test01` ... `Test21`.

    Args:
        root:
            The folder that holds the archive and the label files.
        labels:
            "masks", "frame_labels" or "intervals", see above. The data set is called
            `avenue_frame_labels` where the labels are those of the second version.
        footage:
            False makes records without paths: there are labels (and maybe features) only.
        subset:
            Accept that videos are missing; those that exist are checked.

    Raises:
        ManifestError: label files or videos are missing, or have another number of frames than the
            official one; totals are not those of either version.
    """
    if labels not in get_args(Labels):
        raise ManifestError(f"labels {labels!r}: there are {', '.join(get_args(Labels))}")
    root = Path(os.path.realpath(root))
    read = {"masks": _from_masks, "frame_labels": _from_vector, "intervals": _from_mat}[labels]
    anomalies, masks = read(root)
    train, test = _patterns(root) if footage else (None, None)
    records = []
    for split, n, pattern in (("train", N_TRAIN, train), ("test", len(TEST_FRAMES), test)):
        for number in range(1, n + 1):
            if split == "test" and number not in anomalies:
                continue
            path = None if pattern is None else pattern.format(number)
            facts = {
                "video_id": f"{split.capitalize()}{number:02d}",
                "path": path,
                "split": split,
                "label": int(split == "test"),
                "scene": "avenue",
                "expected_frames": TEST_FRAMES[number - 1] if split == "test" else None,
                "anomalies": anomalies[number] if split == "test" else (),
                "masks": masks.get(number) if split == "test" else None,
            }
            record = _counted(root, VideoRecord.model_validate(facts))
            if record is not None:
                records.append(record)
            elif not subset:
                raise ManifestError(f"{root}/{path} is missing: get it, or ask for a subset")
    if not records:
        raise ManifestError(f"{root} holds no video of Avenue")
    manifest = Manifest(
        dataset=_name(root, labels, anomalies), root=str(root), records=tuple(records)
    )
    return manifest if subset else check_totals(manifest)


Found = tuple[dict[int, Ranges], dict[int, str]]  # by number: abnormal frames; masks


def _from_masks(root: Path) -> Found:
    for folder in FOLDERS:
        for pattern in MASKS:
            places = {
                number: str(Path(folder) / pattern.format(number))
                for number in range(1, len(TEST_FRAMES) + 1)
            }
            there = {n: place for n, place in places.items() if (root / place).is_file()}
            if there:
                return {n: _from_mask(root / place, n) for n, place in there.items()}, there
    raise ManifestError(
        f"{root} holds no masks of Avenue: looked for {' and '.join(MASKS)}, also in "
        f"{', '.join(FOLDERS[1:])}; get them from the authors, or choose labels=frame_labels"
    )


def _from_mask(path: Path, number: int) -> Ranges:
    found = mask_labels(path)
    check_count(f"Test{number:02d}: masks in {path}", len(found), TEST_FRAMES[number - 1])
    return from_labels(found)


def _from_vector(root: Path) -> Found:
    path = _file(root, FRAME_LABELS)
    if path.stat().st_size > MOST_BYTES:
        raise ManifestError(f"{path} is larger than {MOST_BYTES} bytes: it is not a label vector")
    vector = mapped_array(path, f"{path} is not a label vector")
    check_count(f"{path}: labels", vector.size, sum(TEST_FRAMES))
    parts = np.split(np.asarray(vector).reshape(-1), np.cumsum(TEST_FRAMES)[:-1])
    try:
        return {number: from_labels(part) for number, part in enumerate(parts, start=1)}, {}
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error


def _from_mat(root: Path) -> Found:
    path = _file(root, INTERVALS)
    found = {}
    for number, intervals in enumerate(read_mat_intervals(path, len(TEST_FRAMES)), start=1):
        try:
            found[number] = from_inclusive(intervals, first=1, n_frames=TEST_FRAMES[number - 1])
        except ManifestError as error:
            raise ManifestError(f"{path}, Test{number:02d}: {error}") from error
    return found, {}


def _file(root: Path, name: str) -> Path:
    for folder in FOLDERS:
        if (root / folder / name).is_file():
            return root / folder / name
    raise ManifestError(f"{root} has no {name}, also not in {', '.join(FOLDERS[1:])}")


def _name(root: Path, labels: Labels, anomalies: dict[int, Ranges]) -> str:
    if labels != "intervals":
        return NAMES[labels == "frame_labels"]
    total = sum(stop - start for ranges in anomalies.values() for start, stop in ranges)
    for name in NAMES:
        if OFFICIAL[name]["test"].abnormal_frames == total:
            return name
    raise ManifestError(
        f"{root}: {INTERVALS} marks {total:,} abnormal frames; the published versions have "
        "3,712 and 3,867"
    )


def _patterns(root: Path) -> tuple[str, str]:
    for folder in FOLDERS:
        for patterns in FOOTAGE:
            train, test = (str(Path(folder) / pattern) for pattern in patterns)
            if (root / train).parent.is_dir() and (root / test).parent.is_dir():
                return train, test
    raise ManifestError(
        f"{root} holds no footage of Avenue: looked for training_videos and testing_videos, or "
        "training/frames and testing/frames; for labels alone, set footage=false"
    )


def _counted(root: Path, record: VideoRecord) -> VideoRecord | None:
    """The record with its number of pictures; None if its footage is missing."""
    if record.path is None:
        return record
    path = root / record.path
    if not path.is_dir():
        return record if path.is_file() else None
    n_pictures = len(image_files(path))
    expected = record.expected_frames or n_pictures
    check_count(f"{record.video_id}: pictures in {path}", n_pictures, expected)
    return record.model_copy(update={"expected_frames": n_pictures})
