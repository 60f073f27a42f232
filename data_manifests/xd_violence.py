"""XD-Violence: 4,754 clips of films and web videos, 3,954 to train on and 800 to test.

The label of a video is in its name: `Bad.Boys.1995__#01-11-55_01-12-40_label_G-B2-B6`, where A is
normal, B1 fighting, B2 shooting, B4 riot, B5 abuse, B6 car accident, G explosion and 0 padding.

The root is the folder of the label files. `annotations.txt` names the 500 violent test videos only.
The other names come from lists, from the footage, or from both; both must agree:

    root/
      annotations.txt                   NAME START END START END ... (also XD_Annotation.txt)
      rgb.list, rgb_test.list           names of all videos of a split (optional)
    footage/                            (may be the root, or lie in it)
      1-1004/v=...__#1_label_A.mp4      training, in folders of any other name
      test_videos/...                   test, in folders whose name starts with "test" (or the
                                        folder `footage` itself)

In a list, a name may have folders before it, and `.mp4`, `.npy` or the number of a crop
(`__0.npy`) after it, so the published lists of feature files can be used. Frames are counted from 0
and END is not included, as in the authors' evaluation code.

Source: P. Wu et al., "Not only Look, but also Listen: Learning Multimodal Violence Detection under
Weak Supervision", ECCV 2020. Nothing of the data comes with this package.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Literal

from .counts import check_totals
from .footage import Listing, by_name, find_footage, locate, safe_id
from .intervals import Ranges, from_inclusive
from .record import Manifest, ManifestError, VideoRecord, label_lines

OBTAIN = "Videos, features and annotations are on https://roc-ng.github.io/XD-Violence/."
CATEGORIES = ("B1", "B2", "B4", "B5", "B6", "G")
ANNOTATIONS = ("annotations.txt", "XD_Annotation.txt")
LISTS = {"train": "rgb.list", "test": "rgb_test.list"}
_NAME = re.compile(r"(?P<title>.+)__#(?P<time>[0-9]+(?:[_-][0-9]+)*)_label_(?P<labels>[ABG0-9-]+)")
_YOUTUBE = re.compile(r"v=([A-Za-z0-9_-]{11})")

Split = Literal["train", "test"]


def build(
    root: Path,
    *,
    footage: str | Path | None = None,
    train_list: str | Path | None = None,
    test_list: str | Path | None = None,
    subset: bool = False,
) -> Manifest:
    """Make the manifest of XD-Violence; see `video_id` for the ids.

    Training videos have no frame labels: `anomalies` is () for normal ones and None for violent
    ones. The category of a violent one is its classes, joined with "+".

    Args:
        root:
            The folder of the label files. Other paths may be relative to it.
        footage:
            The folder of the videos; without it no record has a path.
        train_list:
            List of the training videos. Default: `rgb.list`, if it exists.
        test_list:
            List of the test videos. Default: `rgb_test.list`, if it exists.
        subset:
            Accept that videos are missing. With `footage`, videos without a file are left out. With
            the annotations alone, the manifest has the 500 violent test videos.

    Raises:
        ManifestError: the annotations are missing; a file cannot be read; a video is in both
            splits or missing; totals are not the official ones.
    """
    root = Path(os.path.realpath(root))
    annotated = read_annotations(_annotations(root))
    splits: dict[str, Split] = {}
    lists: dict[Split, Path] = {}
    named: tuple[tuple[Split, str | Path | None], ...] = (
        ("train", train_list),
        ("test", test_list),
    )
    for split, given in named:
        path = root / (given or LISTS[split])
        if given is None and not path.is_file():
            continue
        lists[split] = path
        for name in read_list(path):
            if splits.setdefault(name, split) != split:
                raise ManifestError(f"{path}: {name} is in both splits")
    for name in annotated:
        if splits.setdefault(name, "test") != "test":
            raise ManifestError(f"{lists['train']}: {name} has test annotations")
    base, paths = root, dict[str, str]()
    if footage is not None:
        listing = find_footage(root / footage)
        for name, split in _found(listing).items():
            if name not in splits and split in lists:
                raise ManifestError(f"{listing.root}: {name} is not in {lists[split]}")
            if splits.setdefault(name, split) == "train" and split == "test":
                raise ManifestError(f"{listing.root}: {name} is a training video in a test folder")
        base, paths = listing.root, locate(listing, dict.fromkeys(splits), subset=subset)
        if not paths:
            raise ManifestError(f"{base} holds no video of XD-Violence")
    records = [
        _record(name, split, annotated, paths.get(name))
        for name, split in splits.items()
        if footage is None or name in paths
    ]
    records.sort(key=lambda r: r.split == "test")
    manifest = Manifest(dataset="xd_violence", root=str(base), records=tuple(records))
    return manifest if subset else check_totals(manifest)


def video_id(name: str) -> str:
    """Make the id of a video: `v=` becomes `v.` and `__#` becomes `__`.

        v=S-7rRLrxnVQ__#1_label_B4-0-0                 v.S-7rRLrxnVQ__1_label_B4-0-0
        City.of.God.2002__#01-24-10_01-25-10_label_A   City.of.God.2002__01-24-10_01-25-10_label_A

    The name can be found from the id: the last `__` is where the `#` was (times have none), and
    `v.` with eleven letters after it was `v=`. Names of another form get a hash (see
    `footage.safe_id`).
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return safe_id(name)
    youtube = _YOUTUBE.fullmatch(match["title"])
    title = f"v.{youtube[1]}" if youtube else match["title"]
    plain = re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", title)
    if not plain or (not youtube and re.fullmatch(r"v\.[A-Za-z0-9_-]{11}", title)):
        return safe_id(name)
    return f"{title}__{match['time']}_label_{match['labels']}"


def read_categories(name: str) -> tuple[str, ...]:
    """Read the classes of anomaly in a name; () is a normal video.

    Raises:
        ManifestError: the name has no label, or an unknown one.
    """
    _, found, text = name.rpartition("_label_")
    labels = [label for label in text.split("-") if label != "0"]
    if found and labels == ["A"]:
        return ()
    if not found or not labels or not set(labels) <= set(CATEGORIES):
        raise ManifestError(
            f"{name!r} is not a name of XD-Violence: it must end with _label_ and A, or classes "
            f"out of {', '.join(CATEGORIES)}"
        )
    return tuple(labels)


def read_annotations(path: Path) -> dict[str, Ranges]:
    """Read name -> abnormal frames of the violent test videos, in file order.

    Raises:
        ManifestError: there is no such file, a line cannot be read, or a video is normal or listed
            twice.
    """
    videos: dict[str, Ranges] = {}
    for line in label_lines(path):
        word, *numbers = line.split()
        name = _bare(word)
        if name in videos:
            raise ManifestError(f"{path}: {name} is listed twice")
        if (
            not numbers
            or len(numbers) % 2
            or not all(re.fullmatch(r"[0-9]{1,9}", n) for n in numbers)
        ):
            raise ManifestError(f"{path}: {name}: expected pairs of frame numbers after the name")
        if not _categories_in(path, name):
            raise ManifestError(f"{path}: {name}: has violent frames, but its name says normal")
        edges = list(map(int, numbers))
        pairs = [(a, b - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
        try:
            videos[name] = from_inclusive(pairs, first=0)
        except ManifestError as error:
            raise ManifestError(f"{path}: {name}: {error}") from error
    return videos


def read_list(path: Path) -> list[str]:
    """Read the names of a list, each once, in file order.

    Raises:
        ManifestError: there is no such file, or a line has no label.
    """
    names = dict.fromkeys(map(_bare, label_lines(path)))
    for name in names:
        _categories_in(path, name)
    return list(names)


def _categories_in(path: Path, name: str) -> tuple[str, ...]:
    """What `read_categories` returns for a name in a file; its error names the file."""
    try:
        return read_categories(name)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error


def _bare(line: str) -> str:
    """Strip folders, suffix and number of the crop from a name."""
    name = re.sub(r"\.(mp4|npy)$", "", line.replace("\\", "/").rpartition("/")[2])
    return re.sub(r"(_label_[ABG0-9-]+)__[0-9]$", r"\1", name)


def _annotations(root: Path) -> Path:
    for name in ANNOTATIONS:
        if (root / name).is_file():
            return root / name
    raise ManifestError(f"{root} holds no labels of XD-Violence: no {' or '.join(ANNOTATIONS)}")


def _found(listing: Listing) -> dict[str, Split]:
    """Map each name that has a label to the split that its folders state."""
    splits: dict[str, Split] = {}
    for name, paths in by_name(listing).items():
        if "_label_" in name:
            folders = (listing.root.name, *PurePosixPath(paths[0]).parts[:-1])
            test = any(folder.lower().startswith("test") for folder in folders)
            splits[name] = "test" if test else "train"
    return splits


def _record(name: str, split: Split, annotated: dict[str, Ranges], path: str | None) -> VideoRecord:
    categories = read_categories(name)
    if split == "test" and categories and name not in annotated:
        raise ManifestError(f"{name} is a violent test video, but the annotations do not have it")
    anomalies: Ranges | None = ()
    if categories:
        anomalies = annotated[name] if split == "test" else None
    return VideoRecord(
        video_id=video_id(name),
        path=path,
        split=split,
        label=1 if categories else 0,
        category="+".join(categories) or None,
        anomalies=anomalies,
    )
