"""UCSD Ped2: 16 normal training clips and 12 test clips of one walkway, 360 x 240, grey.

Two forms are read: the official archive, and the repackaged one with JPEGs that is in wide use:

    UCSD_Anomaly_Dataset.v1p2/               ped2/
      UCSDped2/                                training/frames/01/000.jpg ... 119.jpg
        Train/Train001/001.tif ... 120.tif     testing/
        Test/                                    frames/01/000.jpg ... 179.jpg
          Test001/001.tif ... 180.tif            pixel_masks/01/000.png ...       (optional)
          Test001_gt/001.bmp ...  (optional)     UCSDped2.m
          UCSDped2.m

`UCSDped2.m` holds the abnormal frames of each test clip, 1-based and inclusive, in clip order:

    TestVideoFile{end+1}.gt_frame = [61:180];

Repackaged copies often hold `ped2.mat` instead, next to `training`; it is read where the other file
is missing.

Source: V. Mahadevan, W. Li, V. Bhalodia, N. Vasconcelos, "Anomaly Detection in Crowded Scenes",
CVPR 2010. The archive may be used for research; nothing of it comes with this package.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from .intervals import Ranges, frame_labels, from_inclusive, mask_labels
from .mat_intervals import read_mat_intervals
from .record import Manifest, ManifestError, VideoRecord, check_count, image_files

OBTAIN = (
    "Unpack UCSD_Anomaly_Dataset.tar.gz from "
    "http://www.svcl.ucsd.edu/projects/anomaly/dataset.htm; Ped1, in the same archive, is not "
    "read."
)
# Frames of each clip, and abnormal frames of each test clip, in clip order (2,550; 2,010; 1,648).
TRAIN_FRAMES = (120, 150, 150, 180, 180, 150, 150, 120, 180, 180, 180, 180, 180, 150, 150, 150)
TEST_FRAMES = (180, 180, 150, 180, 150, 180, 180, 180, 120, 150, 180, 180)
TEST_ABNORMAL = (120, 86, 146, 150, 129, 159, 135, 180, 120, 150, 180, 93)


@dataclass(frozen=True)
class _Layout:
    """Paths of one packaging; {} is the clip's number."""

    train: str
    test: str
    masks: str
    labels: str


OFFICIAL = _Layout("Train/Train{:03d}", "Test/Test{:03d}", "Test/Test{:03d}_gt", "Test/UCSDped2.m")
REPACKAGED = _Layout(
    "training/frames/{:02d}",
    "testing/frames/{:02d}",
    "testing/pixel_masks/{:02d}",
    "testing/UCSDped2.m",
)
MAT = "ped2.mat"  # of the repackaged archives
FOLDERS = (".", "UCSDped2", "UCSD_Anomaly_Dataset.v1p2/UCSDped2", "ped2", "ucsd_ped2")


def build(root: Path, *, subset: bool = False, weak: Sequence[int] = ()) -> Manifest:
    """Make the manifest of UCSD Ped2, in either packaging.

    Clips are named as in the official archive: `Train001` ... `Train016`, `Test001` ... `Test012`.

    Args:
        root:
            The folder that holds `Train` and `Test` (or `training` and `testing`), or its parent.
        subset:
            Accept that clips are missing; those that exist are checked.
        weak:
            Numbers of test clips that train as abnormal videos with one label each: their split is
            train, and neither frame labels nor masks are given. It is no protocol of the data set.

    Raises:
        ManifestError: the folders do not exist; a clip is missing, unknown, or has another number
            of frames than the official one; a number of `weak` is of no test clip that is there;
            the labels cannot be read, or intervals and masks disagree.
    """
    base, layout = _locate(root)
    records = [
        *_records(base, layout.train, "train", TRAIN_FRAMES, subset),
        *_records(base, layout.test, "test", TEST_FRAMES, subset),
    ]
    if not records:
        raise ManifestError(f"{base} holds no clip of UCSD Ped2")
    intervals: list[list[tuple[int, int]]] = []
    if any(record.split == "test" for record in records):
        intervals = _intervals(base, layout)
        if len(intervals) > len(TEST_FRAMES) or not subset:
            check_count(f"{base / layout.labels}: clips", len(intervals), len(TEST_FRAMES))
    for i, record in enumerate(records):
        if record.split == "test":
            records[i] = _labelled(base, layout, record, intervals)
    records = _weakly_labelled(records, weak)
    return Manifest(dataset="ucsd_ped2", root=str(base), records=tuple(records))


def _weakly_labelled(records: Sequence[VideoRecord], weak: Sequence[int]) -> list[VideoRecord]:
    """Turn some test clips into abnormal training videos; see `build`."""
    if isinstance(weak, str) or not all(type(number) is int for number in weak):
        raise ManifestError(f"weak has to be a list of clip numbers, as [1, 2, 3], not {weak!r}")
    wanted = {f"Test{number:03d}" for number in weak}
    if missing := sorted(wanted - {record.video_id for record in records}):
        raise ManifestError(f"weak names {', '.join(missing)}: there is no such test clip")
    hidden = {"split": "train", "label": 1, "anomalies": None, "masks": None}
    return [r.model_copy(update=hidden) if r.video_id in wanted else r for r in records]


def _intervals(base: Path, layout: _Layout) -> list[list[tuple[int, int]]]:
    source, mat = base / layout.labels, base / MAT
    if mat.is_file() and not source.is_file():
        return read_mat_intervals(mat, len(TEST_FRAMES))
    return read_intervals(source)


def read_intervals(path: Path) -> list[list[tuple[int, int]]]:
    """Read the 1-based inclusive intervals of each test clip, in clip order, from `UCSDped2.m`.

    The file is MATLAB source. Only its one kind of statement is parsed; nothing is executed.

    Raises:
        ManifestError: there is no such file, or it has another kind of statement.
    """
    if not path.is_file():
        raise ManifestError(
            f"{path} does not exist: copy UCSDped2.m out of the official archive's Test folder"
        )
    # latin-1 never fails, and comments may be in any encoding.
    source = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("latin-1")
    text = re.sub(r"%[^\n]*", "", source.replace("\r", "\n"))
    statement = r"TestVideoFile\{end ?\+ ?1\}\.gt_frame ?= ?\[([0-9:,\s]*)\]"
    clips = []
    for part in filter(None, map(str.strip, re.split(r"[;\n]", text))):
        match = re.fullmatch(statement, part)
        inside = "" if match is None else re.sub(r"\s*:\s*", ":", match[1])
        words = inside.replace(",", " ").split()
        ends = [re.fullmatch(r"([0-9]{1,9})(?::([0-9]{1,9}))?", word) for word in words]
        if match is not None and all(ends):
            clips.append([(int(end[1]), int(end[2] or end[1])) for end in ends if end])
        elif not re.fullmatch(r"TestVideoFile ?= ?\{ ?\}", part):
            raise ManifestError(
                f"{path}: cannot read {part[:80]!r}; expected lines like "
                "'TestVideoFile{end+1}.gt_frame = [61:180];'"
            )
    return clips


def _locate(root: Path) -> tuple[Path, _Layout]:
    for folder in FOLDERS:
        for layout in (OFFICIAL, REPACKAGED):
            parts = [(root / folder / p).parent for p in (layout.train, layout.test)]
            if all(p.is_dir() for p in parts):
                return Path(os.path.realpath(root / folder)), layout
    raise ManifestError(
        f"{root} is not UCSD Ped2: neither it nor its folder UCSDped2 or ped2 holds 'Train' and "
        "'Test' (official archive) or 'training/frames' and 'testing/frames' (repackaged)"
    )


def _records(
    base: Path,
    pattern: str,
    split: Literal["train", "test"],
    official: tuple[int, ...],
    subset: bool,
) -> list[VideoRecord]:
    """Make the records of a split, and count the frames of each clip."""
    expected = {Path(pattern.format(i)).name: i for i in range(1, len(official) + 1)}
    folder = (base / pattern).parent
    found = {p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
    found = {name for name in found if not name.endswith("_gt")}
    unknown, missing = sorted(found - expected.keys()), sorted(expected.keys() - found)
    if unknown:
        raise ManifestError(f"{folder}: {', '.join(unknown)} is not a clip of UCSD Ped2")
    if missing and not subset:
        raise ManifestError(
            f"{folder}: {', '.join(missing)} is missing: unpack the whole data set, or ask for a "
            "subset"
        )
    records = []
    for name, i in expected.items():
        if name in found:
            video_id = f"{split.capitalize()}{i:03d}"
            frames = len(image_files(folder / name))
            check_count(f"{video_id} ({folder / name}): frames", frames, official[i - 1])
            records.append(
                VideoRecord(
                    video_id=video_id,
                    path=pattern.format(i),
                    split=split,
                    label=1 if split == "test" else 0,
                    scene="ped2",
                    expected_frames=frames,
                    anomalies=None if split == "test" else (),
                )
            )
    return records


def _labelled(
    base: Path,
    layout: _Layout,
    record: VideoRecord,
    intervals: list[list[tuple[int, int]]],
) -> VideoRecord:
    """Add the anomalies to a test clip, checked against the official count and the masks."""
    i = int(record.video_id.removeprefix("Test"))
    n_frames = TEST_FRAMES[i - 1]
    if i > len(intervals):
        raise ManifestError(f"{record.video_id}: {base / layout.labels} has no line for it")
    try:
        anomalies: Ranges = from_inclusive(intervals[i - 1], first=1, n_frames=n_frames)
    except ManifestError as error:
        raise ManifestError(f"{record.video_id}: {error}") from error
    labels = frame_labels(anomalies, n_frames)
    check_count(f"{record.video_id}: abnormal frames", int(labels.sum()), TEST_ABNORMAL[i - 1])
    masks = layout.masks.format(i)
    if not (base / masks).is_dir():
        return record.model_copy(update={"anomalies": anomalies})
    by_pixels = mask_labels(base / masks)
    check_count(f"{record.video_id}: pixel masks in {masks}", len(by_pixels), n_frames)
    differ = np.flatnonzero(by_pixels != labels)
    if len(differ):
        raise ManifestError(
            f"{record.video_id}: pixel masks and intervals disagree on {len(differ)} frames "
            f"(counted from 0): {', '.join(map(str, differ[:10]))}; one of the two was changed"
        )
    return record.model_copy(update={"anomalies": anomalies, "masks": masks})
