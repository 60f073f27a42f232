"""UCF-Crime: 1,900 surveillance videos; 1,610 with a label a video, 290 with frame labels.

The root is the folder of the label files. Videos are searched under `footage` only, at any depth.
Without it the manifest has no paths, and serves features that others have extracted:

    root/
      Anomaly_Train.txt                     Abuse/Abuse001_x264.mp4, one a line
      Temporal_Anomaly_Annotation.txt       Abuse028_x264.mp4  Abuse  165  240  -1  -1
    footage/                                (may be the root, or lie in it)
      Abuse/Abuse001_x264.mp4 ...           13 folders of anomalies
      Training_Normal_Videos_Anomaly/Normal_Videos001_x264.mp4 ...
      Testing_Normal_Videos_Anomaly/Normal_Videos_003_x264.mp4 ...

An annotation has the first and the last frame of up to two events; -1 means none. Frames are
counted from 0 and the last one is included, as in the evaluation code of RTFM. (The authors' own
MATLAB code counts from 1: 84,338 abnormal frames instead of 84,331.) Events are clipped to the
video.

Source: W. Sultani, C. Chen, M. Shah, "Real-world Anomaly Detection in Surveillance Videos", CVPR
2018. The videos may be used for research; nothing of them comes with this package.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, get_args

from .counts import OFFICIAL, check_totals
from .footage import find_footage, locate
from .intervals import Ranges, from_inclusive
from .plain_text import one_line
from .record import LABEL_BYTES, Manifest, ManifestError, VideoRecord, label_lines
from .stored import DamagedFile, read_json

OBTAIN = (
    "The videos are on https://www.crcv.ucf.edu/projects/real-world/; the lists and "
    "annotations are in the repository WaqasSultani/AnomalyDetectionCVPR2018."
)
CATEGORIES = tuple(OFFICIAL["ucf_crime"]["test"].categories)
NORMAL_TRAIN = "Training_Normal_Videos_Anomaly"
NORMAL_TEST = "Testing_Normal_Videos_Anomaly"
# Frames of the seven videos whose last event reaches the end of the video or goes beyond it. With
# them, labels are clipped even without a list of frame counts.
CLIPPED = {
    "Arson011_x264": 1266,
    "Arson016_x264": 1795,
    "Assault006_x264": 8096,
    "Explosion033_x264": 3154,
    "Fighting003_x264": 3102,
    "Shooting015_x264": 1713,
    "Shooting046_x264": 5088,
}
Split = Literal["train", "test", "validation"]

logger = logging.getLogger(__name__)


class Annotation(NamedTuple):
    """One line of the temporal annotations: the class (None: normal) and the events as written."""

    category: str | None
    events: tuple[tuple[int, int], ...]


def build(
    root: Path,
    *,
    footage: str | Path | None = None,
    frame_counts: str | Path | None = None,
    split_file: str | Path | None = None,
    subset: bool = False,
    normal_only: bool = False,
) -> Manifest:
    """Make the manifest of UCF-Crime. Ids are file names without suffix: `Abuse001_x264`.

    Training videos have no frame labels: `anomalies` is () for normal ones and None for abnormal
    ones.

    Args:
        root:
            The folder of the label files. Other paths may be relative to it.
        footage:
            The folder of the videos; without it no record has a path.
        frame_counts:
            UR-DMU's annotation list, which adds a frame count to each test video. Sets
            `expected_frames`. Its annotations must equal the official ones.
        split_file:
            Another split than the official one, of all or some of the videos: JSON
            {"train": [...], "test": [...]} of ids, with or without a folder before them. Videos of
            its training split lose their frame labels.
        subset:
            Accept that videos are missing in the lists or in the footage. Videos without footage
            are left out.
        normal_only:
            Leave the abnormal training videos out, as systems do that learn from normal footage.

    Raises:
        ManifestError: a label file is missing or cannot be read; a video is in both splits, unknown
            or missing; totals are not the official ones.
    """
    root = Path(os.path.realpath(root))
    train = read_train_list(root / "Anomaly_Train.txt")
    test = read_annotations(root / "Temporal_Anomaly_Annotation.txt")
    both = sorted(train.keys() & test.keys())
    if both:
        raise ManifestError(f"{root}: {', '.join(both[:10])} is in both splits")
    frames = {} if frame_counts is None else read_frame_counts(root / frame_counts, test)
    records = [_training_record(*each) for each in train.items()]
    records += [_test_record(name, each, frames.get(name)) for name, each in test.items()]
    if split_file is not None:
        records = _resplit(records, root / split_file)
    manifest = Manifest(dataset="ucf_crime", root=str(root), records=tuple(records))
    if split_file is None and not subset:
        check_totals(manifest)
    if normal_only:
        records = [r for r in records if r.split != "train" or r.label == 0]
        manifest = manifest.model_copy(update={"records": tuple(records)})
    if footage is None:
        return manifest
    listing = find_footage(root / footage)
    wanted: dict[str, str | None] = {
        r.video_id: r.category or (NORMAL_TRAIN if r.video_id in train else NORMAL_TEST)
        for r in records
    }
    paths = locate(listing, wanted, subset=subset)
    found = [
        r.model_copy(update={"path": paths[r.video_id]}) for r in records if r.video_id in paths
    ]
    if not found:
        raise ManifestError(f"{listing.root} holds no video of UCF-Crime")
    return manifest.model_copy(update={"root": str(listing.root), "records": tuple(found)})


def _training_record(video_id: str, category: str | None) -> VideoRecord:
    return VideoRecord(
        video_id=video_id,
        path=None,
        split="train",
        label=0 if category is None else 1,
        category=category,
        anomalies=() if category is None else None,
    )


def _test_record(video_id: str, annotation: Annotation, n_frames: int | None) -> VideoRecord:
    return VideoRecord(
        video_id=video_id,
        path=None,
        split="test",
        label=0 if annotation.category is None else 1,
        category=annotation.category,
        expected_frames=n_frames,
        anomalies=_ranges(video_id, annotation, n_frames),
    )


def read_train_list(path: Path) -> dict[str, str | None]:
    """Read id -> class of anomaly (None: normal) of the training videos, in file order.

    Raises:
        ManifestError: there is no such file, a line cannot be read, or a video is listed twice.
    """
    videos: dict[str, str | None] = {}
    for line in label_lines(path):
        match = re.fullmatch(r"([A-Za-z_]+)/([A-Za-z0-9_-]+)\.mp4", line)
        if match is None or match[1] not in (*CATEGORIES, NORMAL_TRAIN):
            raise ManifestError(
                f"{path}: {line[:80]!r} is not a line like 'Abuse/Abuse001_x264.mp4' with one of "
                f"the folders {', '.join(CATEGORIES)}, {NORMAL_TRAIN}"
            )
        if match[2] in videos:
            raise ManifestError(f"{path}: {match[2]} is listed twice")
        videos[match[2]] = None if match[1] == NORMAL_TRAIN else match[1]
    return videos


def read_annotations(path: Path) -> dict[str, Annotation]:
    """Read id -> annotation of the test videos, in file order.

    Raises:
        ManifestError: there is no such file, a line cannot be read, or a video is listed twice.
    """
    videos: dict[str, Annotation] = {}
    for line in label_lines(path):
        name, *rest = line.split()
        video_id = name.removesuffix(".mp4")
        if video_id in videos:
            raise ManifestError(f"{path}: {video_id} is listed twice")
        videos[video_id] = _annotation(path, video_id, rest)
    return videos


def read_frame_counts(path: Path, annotations: dict[str, Annotation]) -> dict[str, int]:
    """Read id -> frames of the test videos, from UR-DMU's list.

        Abuse/Abuse028_x264.mp4 1412 Abuse 165 240 -1 -1

    Args:
        path:
            The list.
        annotations:
            The official annotations, which it repeats.

    Raises:
        ManifestError: a line cannot be read, names another video than the annotations do, has other
            labels, or a video is missing.
    """
    frames: dict[str, int] = {}
    for line in label_lines(path):
        name, count, *rest = [*line.split(), ""]
        video_id = PurePosixPath(name).name.removesuffix(".mp4")
        if video_id not in annotations or video_id in frames:
            raise ManifestError(f"{path}: {video_id} is listed twice, or is not a test video")
        if not re.fullmatch(r"[1-9][0-9]{0,8}", count):
            raise ManifestError(f"{path}: {video_id}: {count!r} is not a number of frames")
        if _annotation(path, video_id, rest[:-1]) != annotations[video_id]:
            raise ManifestError(f"{path}: {video_id} has other labels than the official annotation")
        frames[video_id] = int(count)
    missing = sorted(annotations.keys() - frames.keys())
    if missing:
        raise ManifestError(f"{path} has no frame count of {', '.join(missing[:10])}")
    return frames


def _annotation(path: Path, video_id: str, words: list[str]) -> Annotation:
    """Read the words CLASS START END START END; -1 means none."""
    category, *numbers = words or [""]
    if len(numbers) != 4 or not all(re.fullmatch(r"-1|[0-9]{1,9}", n) for n in numbers):
        raise ManifestError(
            f"{path}: {video_id}: expected a class and four frame numbers (-1 for none), found "
            f"{' '.join(words)[:80]!r}"
        )
    if category not in (*CATEGORIES, "Normal"):
        raise ManifestError(f"{path}: {video_id}: {category!r} is not a class of UCF-Crime")
    a, b, c, d = map(int, numbers)
    events = tuple(event for event in ((a, b), (c, d)) if event != (-1, -1))
    if any(-1 in event for event in events) or bool(events) != (category != "Normal"):
        raise ManifestError(
            f"{path}: {video_id}: frames {' '.join(numbers)} do not fit class {category}"
        )
    return Annotation(None if category == "Normal" else category, events)


def _ranges(video_id: str, annotation: Annotation, n_frames: int | None) -> Ranges:
    n_frames = n_frames or CLIPPED.get(video_id)
    try:
        ranges = from_inclusive(
            annotation.events, first=0, n_frames=n_frames, clip=n_frames is not None
        )
    except ManifestError as error:
        raise ManifestError(f"{video_id}: {error}") from error
    if annotation.events and not ranges:
        raise ManifestError(f"{video_id}: all events lie after its {n_frames} frames")
    return ranges


def _resplit(records: list[VideoRecord], path: Path) -> list[VideoRecord]:
    """The videos of a split file, in its order and with its splits."""
    known = {r.video_id: r for r in records}
    chosen: dict[str, VideoRecord] = {}
    for split, names in _read_split(path).items():
        for name in names:
            video_id = PurePosixPath(name).name.removesuffix(".mp4")
            if video_id not in known:
                raise ManifestError(f"{path}: {name!r} is not a video of UCF-Crime")
            if video_id in chosen:
                if chosen[video_id].split != split:
                    raise ManifestError(f"{path}: {video_id} is in two splits")
                said = one_line(str(path)), one_line(video_id)
                logger.warning("%s lists %s twice: taken once", *said)
                continue
            record = known[video_id].model_copy(update={"split": split})
            if split == "train" and record.label == 1:
                record = record.model_copy(update={"anomalies": None})
            chosen[video_id] = record
    return list(chosen.values())


def _read_split(path: Path) -> dict[Split, list[str]]:
    if not path.is_file() or path.stat().st_size > LABEL_BYTES:
        raise ManifestError(f"{path} does not exist, or is too large for a split file")
    form = 'must be of the form {"train": ["Abuse/Abuse001_x264", ...], "test": [...]}'
    try:
        values: dict[Any, Any] = read_json(path)
    except DamagedFile as error:
        raise ManifestError(f"{path} is not JSON; it {form}: {error}") from error
    if (
        not values
        or not set(values) <= set(get_args(Split))
        or not all(
            isinstance(v, list) and all(isinstance(n, str) for n in v) for v in values.values()
        )
    ):
        raise ManifestError(f"{path} {form}")
    return values
