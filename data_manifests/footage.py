"""Archive footage without labels: a folder, searched with its subfolders, or one file.

    root/
      gate/2024-05-01.mp4        a video: id "gate__2024-05-01.mp4"
      gate/notes.txt             no video: counted and reported
      yard/000.jpg, 001.jpg ...  a folder that directly holds two pictures or more, and no video,
                                 is one video: id "yard"; its subfolders are not searched
      Hof 3/a.avi                id "Hof_3__a.avi-2cb1bdcb": changed names get a hash of the path

Hidden files are skipped. Symbolic links are never followed: they lead out of the root, in circles,
or to footage that is found without them. Only the root itself may be a link.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from .natural_order import natural_key
from .record import (
    ID_LENGTH,
    IMAGE_SUFFIXES,
    UNSTORABLE,
    Manifest,
    ManifestError,
    VideoRecord,
)

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".divx", ".flv", ".h264", ".m2ts", ".m4v", ".mjpeg", ".mjpg"),
    *(".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm"),
    ".wmv",
)
PART_SUFFIX = len(".train")  # characters that ids leave free for the name of a part

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        root: folder that the paths are relative to.
        videos: paths of files and image folders, in natural order.
        skipped: (relative path, reason) of entries that might be footage but are not used.
        others: suffix -> number of files whose suffix is not that of a video.
    """

    root: Path
    videos: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    others: dict[str, int]


def build(
    root: Path,
    *,
    split: Literal["train", "test", "validation", "all"] = "all",
    train_fraction: float | None = None,
    label: Literal[0, 1] | None = None,
) -> Manifest:
    """Make the manifest of a folder of footage, or of one file.

    Args:
        root:
            A folder, an image folder, or a video file.
        split:
            The split of all videos.
        train_fraction:
            The share of each video, from its start, that is known to be normal. Each video becomes
            two records: `ID.train` (train, label 0) and `ID.test` (test, label unknown).
        label:
            The label of all videos, where it is known.

    Returns:
        The manifest. Skipped files are logged as warnings.

    Raises:
        ManifestError: the root does not exist or holds no footage, or the arguments contradict
            each other.
    """
    if train_fraction is not None:
        if split != "all" or label is not None:
            raise ManifestError("train_fraction sets split and label itself: leave them out")
        if not 0.0 < train_fraction < 1.0:
            raise ManifestError(f"train_fraction {train_fraction} must be between 0 and 1")
    listing = find_footage(root)
    for path, reason in listing.skipped:
        logger.warning("skipped %r: %s", path, reason)
    if listing.others:
        logger.warning("skipped files whose suffix is not that of a video: %s", _others(listing))
    if not listing.videos:
        raise ManifestError(
            f"no footage in {root}: looked for {', '.join(VIDEO_SUFFIXES)} and for folders of two "
            f"or more pictures ({', '.join(IMAGE_SUFFIXES)}); skipped "
            f"{len(listing.skipped)} links and unusable names, and files with other suffixes: "
            f"{_others(listing) or 'none'}"
        )
    records = []
    for path in listing.videos:
        video_id = safe_id(path)
        if train_fraction is None:
            known = () if label == 0 else None
            records.append(
                VideoRecord(video_id=video_id, path=path, split=split, label=label, anomalies=known)
            )
        else:
            first, rest = (0.0, train_fraction), (train_fraction, 1.0)
            records += [
                VideoRecord(
                    video_id=f"{video_id}.train", path=path, split="train", label=0, part=first
                ),
                VideoRecord(video_id=f"{video_id}.test", path=path, split="test", part=rest),
            ]
    return Manifest(dataset="footage", root=str(listing.root), records=tuple(records))


def find_footage(root: Path) -> Listing:
    """List the videos under a folder; a video file or an image folder is listed as one video.

    Raises:
        ManifestError: the root does not exist, or its path cannot be stored in a manifest.
    """
    root = Path(os.path.realpath(root))
    if not root.exists() or UNSTORABLE.search(str(root)):
        raise ManifestError(f"footage root {str(root)!r} does not exist, or has an unusable name")
    videos: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    others: Counter[str] = Counter()
    waiting = [root]
    while waiting:
        path = waiting.pop()
        try:
            reason = _unusable(path)
            entries = _entries(path) if reason is None and path.is_dir() else []
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
        if reason is not None:
            skipped.append((path, reason))
        elif path.is_file():
            if path.suffix.lower() in VIDEO_SUFFIXES:
                videos.append(path)
            else:
                others[path.suffix.lower() or "no suffix"] += 1
        elif _holds(entries, IMAGE_SUFFIXES) >= 2 and not _holds(entries, VIDEO_SUFFIXES):
            videos.append(path)
            skipped += [(p, "lies in an image folder") for p in entries if p.is_dir()]
        else:
            waiting += entries
    base = root if root.is_dir() and root not in videos else root.parent
    return Listing(
        root=base,
        videos=tuple(sorted((p.relative_to(base).as_posix() for p in videos), key=_by_parts)),
        skipped=tuple(sorted((p.relative_to(base).as_posix(), reason) for p, reason in skipped)),
        others=dict(others.most_common()),
    )


def by_name(listing: Listing) -> dict[str, list[str]]:
    """Map the name of a video, without suffix, to its paths: some data sets list names only."""
    found: dict[str, list[str]] = {}
    for path in listing.videos:
        name = PurePosixPath(path)
        key = name.stem if name.suffix.lower() in VIDEO_SUFFIXES else name.name
        found.setdefault(key, []).append(path)
    return found


def locate(
    listing: Listing, wanted: Mapping[str, str | None], *, subset: bool = False
) -> dict[str, str]:
    """Find the videos of a data set in a folder.

    Args:
        listing:
            What the folder holds.
        wanted:
            Name of a video without its suffix -> name of its folder. The folder is used only where
            several files have that name; with None they are an error.
        subset:
            Leave missing videos out instead of raising.

    Returns:
        Name -> path below the listing's root, in the order of `wanted`.

    Raises:
        ManifestError: a video is missing, or several files have its name.
    """
    found, paths, missing = by_name(listing), {}, []
    for name, folder in wanted.items():
        candidates = found.get(name, [])
        if len(candidates) > 1:
            candidates = [p for p in candidates if PurePosixPath(p).parent.name == folder]
            if len(candidates) != 1:
                raise ManifestError(
                    f"{name} exists more than once under {listing.root}: "
                    f"{', '.join(found[name])}; keep one of them"
                )
        if candidates:
            paths[name] = candidates[0]
        else:
            missing.append(name)
    if missing and not subset:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise ManifestError(
            f"{listing.root} lacks footage of {len(missing)} videos: {', '.join(missing[:10])}"
            f"{more}; add it, or ask for a subset (symbolic links are not followed)"
        )
    return paths


def safe_id(path: str) -> str:
    """Make the id of the video at a relative path; it depends on that path only.

    The parts are joined by "__" and the suffix stays. A hash of the path is added where two paths
    could get the same id: the path has characters that an id cannot have, "__", a part that starts
    or ends with "_", or is too long.
    """
    joined = path.replace("/", "__")
    safe = re.sub(r"^\.|[^A-Za-z0-9._-]", "_", joined)[: ID_LENGTH - PART_SUFFIX - 9]
    plain = not any("__" in f"_{part}_" for part in path.split("/"))
    if safe == joined and plain:
        return safe
    return f"{safe}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"


def _unusable(path: Path) -> str | None:
    if path.is_symlink():
        return "is a symbolic link (give its target as root, or copy it)"
    if UNSTORABLE.search(path.name):
        return "has control characters or is not UTF-8: rename it"
    if not (path.is_file() or path.is_dir()):
        return "is neither a file nor a folder"
    return None


def _entries(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if not p.name.startswith(".")]


def _holds(entries: list[Path], suffixes: tuple[str, ...]) -> int:
    """Count the files among the entries that have one of the suffixes; links do not count."""
    return sum(p.suffix.lower() in suffixes and p.is_file() for p in entries if not p.is_symlink())


def _by_parts(path: str) -> list[tuple[list[tuple[int, str]], str]]:
    return [natural_key(part) for part in path.split("/")]


def _others(listing: Listing) -> str:
    return ", ".join(f"{suffix} ({n})" for suffix, n in listing.others.items())
