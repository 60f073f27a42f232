"""ShanghaiTech Campus: 437 videos of 13 cameras, in its two splits.

"weak" is the split of Zhong et al. with a label a video (238 training videos, 63 of them abnormal;
199 test videos, 44 abnormal). "one_class" is the original split (330 normal training videos, 107
test videos). Both use the same videos. Three digits after the camera (`01_001`) name an original
training video, normal throughout; four digits (`01_0014`) name an original test video.

The root is the folder of the label files. Videos are searched under `footage` only. Without it the
manifest has no paths, and serves features that others have extracted:

    root/
      SH_Train.txt, SH_Test.txt           the weak split: 01_0014, one a line; ",label" may follow
      test_frame_mask/01_0014.npy ...     107 files, one 0 / 1 a frame; or testing/test_frame_mask
    footage/                              (may be the root, or lie in it)
      training/videos/01_001.avi ...      or training/frames/01_001/*.jpg
      testing/frames/01_0014/000.jpg ...
      testing/test_pixel_mask/01_0014.npy ...   (optional) frames x height x width

`SH_Train.txt` and `SH_Test.txt` are not part of the original archive; the one-class split takes its
training videos from `footage` where they are absent.

Sources: W. Liu, W. Luo, D. Lian, S. Gao, "Future Frame Prediction for Anomaly Detection - A New
Baseline", CVPR 2018; J.-X. Zhong et al., "Graph Convolutional Label Noise Cleaner", CVPR 2019.
Nothing of the data comes with this package.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, get_args

from .counts import check_totals
from .intervals import Ranges, from_labels
from .npy_file import mapped_array
from .record import Manifest, ManifestError, VideoRecord, check_count, image_files, label_lines

OBTAIN = (
    "The archive is on https://svip-lab.github.io/dataset/campus_dataset.html; the lists of "
    "the weak split are in the repository jx-zhong-for-academic-purpose/GCN-Anomaly- "
    "Detection."
)
Protocol = Literal["weak", "one_class"]
Split = Literal["train", "test"]
NAMES = {"weak": "shanghaitech", "one_class": "shanghaitech_one_class"}
MASKS = ("test_frame_mask", "testing/test_frame_mask")
PLACES = (  # where a video may lie; the first that exists is used
    "training/videos/{}.avi",
    "training/frames/{}",
    "testing/frames/{}",
    "testing/videos/{}.avi",
)
PIXEL_MASKS = ("test_pixel_mask/{}.npy", "testing/test_pixel_mask/{}.npy")
MASK_BYTES = 1 << 22  # of one file: days of video


def build(
    root: Path,
    *,
    protocol: Protocol = "weak",
    footage: str | Path | None = None,
    subset: bool = False,
) -> Manifest:
    """Make the manifest of ShanghaiTech; the scene of `01_0014` is `01`.

    Frame labels come from the masks; only test videos have them. `expected_frames` is the length of
    the mask for an original test video, and the number of pictures for an image folder. For other
    videos it is None.

    Args:
        root:
            The folder of the label files.
        protocol:
            "weak" (data set `shanghaitech`) or "one_class" (`shanghaitech_one_class`).
        footage:
            The folder that holds `training` and `testing`; it may be relative to the root. Without
            it no record has a path.
        subset:
            Accept that videos are missing in the lists, in the masks of the one-class split, or in
            the footage. Videos without footage are left out.

    Raises:
        ManifestError: a label file is missing or cannot be read; a video is in both splits, unknown
            or missing, or has another number of frames than of labels; totals are not the official
            ones.
    """
    if protocol not in get_args(Protocol):
        raise ManifestError(f"protocol {protocol!r}: there are {', '.join(get_args(Protocol))}")
    root = Path(os.path.realpath(root))
    masks = _masks(root)
    base = root if footage is None else Path(os.path.realpath(root / footage))
    if protocol == "weak":
        train, test = (read_list(root / f"SH_{split}.txt") for split in ("Train", "Test"))
        twice = sorted(set(train) & set(test))
        if twice:
            raise ManifestError(f"{root}: {', '.join(twice[:10])} is in both splits")
    else:
        train, test = _original_training_videos(root, base), list(masks)
    records = []
    splits: tuple[tuple[Split, list[str]], ...] = (("train", train), ("test", test))
    for split, video_ids in splits:
        for video_id in video_ids:
            record = _with_pixels(_record(video_id, split, masks), base)
            if footage is not None:
                record = _placed(record, base)
            if footage is None or record.path is not None:
                records.append(record)
            elif not subset:
                raise ManifestError(
                    f"{base} has no footage of {video_id}: looked for "
                    f"{', '.join(p.format(video_id) for p in PLACES)}; add it, or ask for a subset"
                )
    if not records:
        raise ManifestError(f"{base} holds no video of ShanghaiTech")
    manifest = Manifest(dataset=NAMES[protocol], root=str(base), records=tuple(records))
    return manifest if subset else check_totals(manifest)


def read_list(path: Path) -> list[str]:
    """Read the ids of a list, in file order: one a line; text after a comma is ignored.

    Raises:
        ManifestError: there is no such file, a line is not an id, or an id is listed twice.
    """
    ids: list[str] = []
    for line in label_lines(path):
        video_id = line.partition(",")[0].strip()
        if not re.fullmatch(r"[0-9]{2}_[0-9]{3,4}", video_id):
            raise ManifestError(f"{path}: {line[:80]!r} is not an id like '01_001' or '01_0014'")
        if video_id in ids:
            raise ManifestError(f"{path}: {video_id} is listed twice")
        ids.append(video_id)
    return ids


def read_mask(path: Path) -> tuple[Ranges, int]:
    """Read the abnormal frames and the number of frames of `test_frame_mask/ID.npy`.

    Raises:
        ManifestError: the file is not a vector of 0 and 1, or is too large.
    """
    video_id = path.stem
    if path.stat().st_size > MASK_BYTES:
        raise ManifestError(f"{video_id}: {path} is larger than {MASK_BYTES} bytes")
    problem = f"{video_id}: {path} is not a frame mask"
    labels = mapped_array(path, problem)
    try:
        return from_labels(labels), len(labels)
    except ManifestError as error:
        raise ManifestError(f"{problem}: {error}") from error


def _masks(root: Path) -> dict[str, tuple[Ranges, int]]:
    """Id -> (abnormal frames, number of frames), sorted by id."""
    for name in MASKS:
        found = sorted((root / name).glob("*.npy"))
        wrong = [p.name for p in found if not _is_original_test(p.stem)]
        if wrong:
            raise ManifestError(f"{root / name}: {', '.join(wrong[:10])} is not a test video")
        if found:
            return {path.stem: read_mask(path) for path in found}
    raise ManifestError(
        f"{root} holds no labels of ShanghaiTech: looked for {' and '.join(MASKS)} with one .npy "
        "a test video"
    )


def _is_original_test(video_id: str) -> bool:
    return re.fullmatch(r"[0-9]{2}_[0-9]{4}", video_id) is not None


def _original_training_videos(root: Path, base: Path) -> list[str]:
    """Ids of three digits, from the lists if there is one, else from the footage."""
    lists = [root / "SH_Train.txt", root / "SH_Test.txt"]
    if any(path.is_file() for path in lists):
        names = [video_id for path in lists for video_id in read_list(path)]
    else:
        names = [p.stem for f in ("videos", "frames") for p in (base / "training" / f).glob("*_*")]
    return sorted({name for name in names if re.fullmatch(r"[0-9]{2}_[0-9]{3}", name)})


def _record(video_id: str, split: Split, masks: dict[str, tuple[Ranges, int]]) -> VideoRecord:
    abnormal = _is_original_test(video_id)
    if abnormal and video_id not in masks:
        raise ManifestError(f"{video_id} has no frame mask: get test_frame_mask/{video_id}.npy")
    ranges, n_frames = masks[video_id] if abnormal else ((), None)
    return VideoRecord(
        video_id=video_id,
        path=None,
        split=split,
        label=1 if abnormal else 0,
        scene=video_id[:2],
        expected_frames=n_frames,
        anomalies=None if abnormal and split == "train" else ranges,
    )


def _with_pixels(record: VideoRecord, base: Path) -> VideoRecord:
    """Return the record with its pixel masks; unchanged if there are none."""
    for place in PIXEL_MASKS:
        masks = place.format(record.video_id)
        if record.anomalies and (base / masks).is_file():
            return record.model_copy(update={"masks": masks})
    return record


def _placed(record: VideoRecord, base: Path) -> VideoRecord:
    """Return the record with the path of its footage; unchanged if there is none."""
    for place in PLACES:
        path = base / place.format(record.video_id)
        if not path.exists():
            continue
        n_frames = record.expected_frames
        if path.is_dir():
            n_pictures = len(image_files(path))
            if not n_pictures:
                raise ManifestError(f"{record.video_id}: {path} holds no pictures")
            check_count(
                f"{record.video_id}: pictures in {path}", n_pictures, n_frames or n_pictures
            )
            n_frames = n_pictures
        return record.model_copy(
            update={"path": place.format(record.video_id), "expected_frames": n_frames}
        )
    return record
