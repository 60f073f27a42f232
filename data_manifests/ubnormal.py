"""UBnormal: 543 rendered videos of 29 scenes, with abnormal videos in training.

The root is the folder of the split lists, which come with the authors' code. Videos and their
annotations are searched under `footage` only; without it there are no paths and no frame labels:

    root/                                        (or root/scripts/)
      normal_training_video_names.txt            186 names, one a line
      abnormal_training_video_names.txt          82
      normal_validation_..., abnormal_validation_...    26, 38
      normal_test_..., abnormal_test_...         53, 158
    footage/                                     (may be the root, or lie in it)
      Scene1/
        normal_scene_1_scenario_1.mp4
        abnormal_scene_1_scenario_1.mp4
        abnormal_scene_1_scenario_1_annotations/
          abnormal_scene_1_scenario_1_tracks.txt    object, first frame, last frame; from 0

A frame is abnormal if a line of `_tracks.txt` covers it, its last frame included. Some folders
also hold `_new_tracks.txt`; the authors' frame labels do not use it, and neither do we.

Source: A. Acsintoae et al., "UBnormal: New Benchmark for Supervised Open-Set Video Anomaly
Detection", CVPR 2022. Nothing of the data comes with this package.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Literal, get_args

from .counts import check_totals
from .intervals import Ranges, from_inclusive
from .record import Manifest, ManifestError, VideoRecord, label_lines

OBTAIN = (
    "The videos are sent by the authors, see https://github.com/lilygeorgescu/UBnormal; the "
    "lists are in its folder scripts."
)
Protocol = Literal["supervised", "one_class"]
Split = Literal["train", "validation", "test"]
NAMES = {"supervised": "ubnormal", "one_class": "ubnormal_one_class"}
LISTS: dict[Split, str] = {"train": "training", "validation": "validation", "test": "test"}
VIDEO = re.compile(r"(normal|abnormal)_scene_([0-9]{1,2})_[A-Za-z0-9_]+")

logger = logging.getLogger(__name__)


def build(
    root: Path,
    *,
    protocol: Protocol = "supervised",
    footage: str | Path | None = None,
    subset: bool = False,
) -> Manifest:
    """Make the manifest of UBnormal; the scene of `normal_scene_1_scenario_2` is `1`.

    Args:
        root:
            The folder of the lists, or the folder that holds them in `scripts`.
        protocol:
            "supervised": the split of the authors; training videos have a label each.
            "one_class" (data set `ubnormal_one_class`): normal training videos, and the validation
            videos as test videos, as papers on one-class detection do.
        footage:
            The folder of the scenes; it may be relative to the root. Without it no record has a
            path, and abnormal videos have no frame labels.
        subset:
            Accept that videos are missing in the lists or in the footage; the latter are left out.

    Raises:
        ManifestError: a list is missing or has an unknown name, a video is in two lists or missing,
            annotations are missing or cannot be read, or totals are not the official ones.
    """
    if protocol not in get_args(Protocol):
        raise ManifestError(f"protocol {protocol!r}: there are {', '.join(get_args(Protocol))}")
    root = Path(os.path.realpath(root))
    base = root if footage is None else Path(os.path.realpath(root / footage))
    records, seen = [], set[str]()
    for split, name in _wanted(_lists(root), protocol):
        if name in seen:
            raise ManifestError(f"{root}: {name} is in two lists")
        seen.add(name)
        record = _record(name, split, base if footage is not None else None)
        if record is not None:
            records.append(record)
        elif not subset:
            raise ManifestError(
                f"{base} has no video {name}: looked for {_place(name)}; or ask for a subset"
            )
    if not records:
        raise ManifestError(f"{base} holds no video of UBnormal")
    manifest = Manifest(dataset=NAMES[protocol], root=str(base), records=tuple(records))
    return manifest if subset else check_totals(manifest)


def event_ranges(path: Path) -> Ranges:
    """Read the abnormal frames of `_tracks.txt`: an object, its first and last frame in each line.

    Raises:
        ManifestError: there is no such file, or a line is something else.
    """
    intervals = []
    for line in label_lines(path):
        cells = [cell for cell in re.split(r"[,\s]+", line) if cell]
        try:
            _, first, last = map(float, cells)
            if first != int(first) or last != int(last):
                raise ValueError
            intervals.append((int(first), int(last)))
        except (ValueError, OverflowError) as error:
            raise ManifestError(
                f"{path}: {line[:80]!r} is not an object, its first and its last frame"
            ) from error
    try:
        return from_inclusive(intervals, first=0)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error


def _lists(root: Path) -> Path:
    for folder in (root, root / "scripts"):
        if (folder / "normal_training_video_names.txt").is_file():
            return folder
    raise ManifestError(
        f"{root} holds no lists of UBnormal: looked for normal_training_video_names.txt there and "
        "in scripts; they come with the authors' code"
    )


def _wanted(lists: Path, protocol: Protocol) -> list[tuple[Split, str]]:
    """Split and name of each video, normal ones first, in the order of the lists."""
    kinds: list[tuple[Split, str, Split]] = []  # split here, kind, split of the list
    if protocol == "supervised":
        kinds = [(split, kind, split) for split in LISTS for kind in ("normal", "abnormal")]
    else:
        kinds = [
            ("train", "normal", "train"),
            ("test", "normal", "validation"),
            ("test", "abnormal", "validation"),
        ]
    found: list[tuple[Split, str]] = []
    for split, kind, of_list in kinds:
        path = lists / f"{kind}_{LISTS[of_list]}_video_names.txt"
        for line in label_lines(path):
            match = VIDEO.fullmatch(line)
            if match is None or match[1] != kind:
                raise ManifestError(f"{path}: {line[:80]!r} is no {kind} video of UBnormal")
            found.append((split, line))
    return found


def _place(name: str) -> str:
    match = VIDEO.fullmatch(name)
    assert match is not None
    return f"Scene{match[2]}/{name}.mp4"


def _record(name: str, split: Split, base: Path | None) -> VideoRecord | None:
    """The record of a video; None if there is a footage folder without it."""
    place, abnormal = _place(name), name.startswith("abnormal")
    if base is not None and not (base / place).is_file():
        return None
    anomalies: Ranges | None = None if abnormal else ()
    if abnormal and base is not None and split != "train":
        folder = (base / place).with_name(f"{name}_annotations")
        if (folder / f"{name}_new_tracks.txt").is_file():
            logger.warning("%s has _new_tracks.txt too; its frame labels are _tracks.txt", name)
        anomalies = event_ranges(folder / f"{name}_tracks.txt")
    return VideoRecord(
        video_id=name,
        path=None if base is None else place,
        split=split,
        label=int(abnormal),
        scene=place.partition("/")[0].removeprefix("Scene"),
        anomalies=anomalies,
    )
