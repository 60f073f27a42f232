"""Archive footage without labels: a folder, searched with its subfolders, or one file.

    root/
      gate/2024-05-01.mp4        a video: id "gate__2024-05-01.mp4"
      gate/notes.txt             no video: counted and reported
      yard/000.jpg, 001.jpg ...  a folder that directly holds two pictures or more, and no video,
                                 is one video: id "yard"; its subfolders are not listed
      Hof 3/a.avi                id "Hof_3__a.avi-2cb1bdcb": changed names get a hash of the path

Pictures never hide footage: where a subfolder, at any depth, holds a video, cannot be read, or
holds more pictures, the pictures above it are no video. They are reported as skipped.

Videos are recognised by their suffix. A file of another suffix that begins as a video does is
named as not read: it is likely footage that is passed over. A single file may have any suffix.

Hidden files are skipped. Symbolic links are never followed: they lead out of the root, in circles,
or to footage that is found without them. Only the root itself may be a link.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from .containers import HEAD, VIDEO_SUFFIXES, format_of
from .natural_order import path_key
from .plain_text import one_line
from .record import (
    ID_LENGTH,
    IMAGE_SUFFIXES,
    UNSTORABLE,
    Manifest,
    ManifestError,
    VideoRecord,
)
from .scenes import scenes_of

OBTAIN = "Any folder of videos or of pictures of yours."
LEAST_BYTES = 4096  # of a file of another suffix that is looked at
# Suffixes of files that lie beside footage in large numbers; these are not opened.
NO_FOOTAGE = frozenset(
    (
        *(".aac", ".arw", ".avif", ".bmp", ".cr2", ".cr3", ".csv", ".dng", ".flac", ".gif", ".gz"),
        *(".h5", ".hdf5", ".heic", ".heif", ".hif", ".html", ".jpeg", ".jpg", ".nef"),
        *(".json", ".jsonl", ".log", ".m4a", ".mat", ".md", ".mp3", ".npy", ".npz", ".ogg"),
        *(".onnx", ".parquet", ".pdf", ".pkl", ".png", ".pt", ".pth", ".py", ".srt", ".tar"),
        *(".tgz", ".tif", ".tiff", ".toml", ".txt", ".vtt", ".wav", ".webp", ".xml", ".yaml"),
        *(".yml", ".zip"),
    )
)
Split = Literal["train", "test", "validation", "all"]
PART_SUFFIX = len(".train")  # characters that ids leave free for the name of a part

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        root: folder that the paths are relative to.
        videos: paths of files and image folders, in natural order.
        skipped: (relative path, reason) of entries that might be footage but are not used.
        unread: those of them that could not be read, or are likely footage under another suffix:
            what is in them is not known.
        others: suffix -> number of files whose suffix is not that of a video.
        unused: patterns that have excluded nothing.
    """

    root: Path
    videos: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    others: dict[str, int]
    unread: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()


class NothingFound(ManifestError):
    """There is no footage in a folder.

    Attributes:
        manifest: without records; its `unread` names the root.
    """

    def __init__(self, message: str, manifest: Manifest) -> None:
        super().__init__(message)
        self.manifest = manifest

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.manifest)


def build(
    root: Path,
    *,
    split: Split = "all",
    train_fraction: float | None = None,
    label: Literal[0, 1] | None = None,
    exclude: Sequence[str] | str = (),
    scene_from: str | None = None,
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
        exclude:
            Patterns (`*.lrv`, `tests`, `gate/2023*`) of names of files and folders, or of their
            paths below the root. What they match is passed over, as hidden files are.
        scene_from:
            "folder": the scene of a video is the first folder on the way to it. A regular
            expression with one group: it is what the group finds in the path below the root.

    Returns:
        The manifest. Skipped files are logged as warnings; `unread` names what could not be read,
        and what is likely footage under another suffix.

    Raises:
        NothingFound: the root holds no footage.
        ManifestError: the root does not exist, or the arguments contradict each other.
    """
    check_options(split, train_fraction, label)
    listing = find_footage(root, exclude)
    warn_of_skipped(listing)
    warn_of_unused([listing])
    if not listing.videos:
        message = (
            f"no footage in {root}: looked for {', '.join(VIDEO_SUFFIXES)} and for folders of two "
            f"or more pictures ({', '.join(IMAGE_SUFFIXES)}); skipped "
            f"{len(listing.skipped)} links and unusable names, and files with other suffixes: "
            f"{_others(listing) or 'none'}"
        )
        unread = (*listing.unread, (".", "holds no footage"))
        raise NothingFound(
            message,
            Manifest(dataset="footage", root=str(listing.root), records=(), unread=unread),
        )
    records = [
        record
        for path, scene in scenes_of(listing.videos, scene_from).items()
        for record in records_of(path, split, label, train_fraction, scene)
    ]
    return Manifest(
        dataset="footage",
        root=str(listing.root),
        records=tuple(records),
        unread=listing.unread,
    )


def check_options(split: object, train_fraction: object, label: object) -> None:
    """Check options of `build`, whose values may come from a command line.

    Raises:
        ManifestError: a value is not one that the option has, or two options contradict each other.
    """
    if split not in get_args(Split):
        raise ManifestError(f"split {split!r}: there are {', '.join(get_args(Split))}")
    if label is not None and label not in (0, 1):
        raise ManifestError(f"label {label!r} must be 0 (normal) or 1 (abnormal)")
    if train_fraction is None:
        return
    if not isinstance(train_fraction, int | float) or not 0.0 < train_fraction < 1.0:
        raise ManifestError(f"train_fraction {train_fraction} must be between 0 and 1")
    if split != "all" or label is not None:
        raise ManifestError("train_fraction sets split and label itself: leave them out")


def warn_of_skipped(listing: Listing) -> None:
    """Log what a listing leaves out, but what it names as unread."""
    for path, reason in sorted(set(listing.skipped) - set(listing.unread)):
        logger.warning("skipped %r: %s", path, reason)
    if listing.others:
        others = one_line(_others(listing))
        logger.warning("skipped files whose suffix is not that of a video: %s", others)


def warn_of_unused(listings: Sequence[Listing]) -> None:
    """Log the patterns that exclude nothing in any of the listings."""
    unused = [p for p in listings[0].unused if all(p in each.unused for each in listings)]
    if unused:
        roots = ", ".join(str(each.root) for each in listings)
        logger.warning("nothing in %s is excluded by %s", roots, ", ".join(unused))


def records_of(
    path: str,
    split: Split,
    label: Literal[0, 1] | None,
    train_fraction: float | None,
    scene: str | None = None,
) -> list[VideoRecord]:
    """The records of the video at a relative path: one, or two with a `train_fraction`."""
    video_id = safe_id(path)
    if train_fraction is None:
        known = () if label == 0 else None
        whole = VideoRecord(
            video_id=video_id, split=split, label=label, anomalies=known, path=path, scene=scene
        )
        return [whole]
    about: dict[str, Any] = {"path": path, "scene": scene}
    first, rest = (0.0, train_fraction), (train_fraction, 1.0)
    return [
        VideoRecord(video_id=f"{video_id}.train", split="train", label=0, part=first, **about),
        VideoRecord(video_id=f"{video_id}.test", split="test", part=rest, **about),
    ]


class _Excluded:
    """What is left out by patterns, and which of these have left something out."""

    def __init__(self, root: Path, patterns: Sequence[str]) -> None:
        self._root = root
        self.unused = list(patterns)
        self._patterns = tuple(patterns)

    def __call__(self, path: Path) -> bool:
        inside = path.relative_to(self._root).as_posix()
        found = [
            pattern
            for pattern in self._patterns
            if fnmatchcase(path.name, pattern) or fnmatchcase(inside, pattern.rstrip("/"))
        ]
        if found and self.unused:
            self.unused = [pattern for pattern in self.unused if pattern not in found]
        return bool(found)


def find_footage(root: Path, exclude: Sequence[str] | str = ()) -> Listing:
    """List the videos under a folder; a video file or an image folder is listed as one video.

    Args:
        root:
            The folder or file.
        exclude:
            Patterns of names, or of paths below the root, that are passed over; one may be a text.

    Raises:
        ManifestError: the root does not exist, or its path cannot be stored in a manifest.
    """
    root = Path(os.path.realpath(root))
    if not root.exists() or UNSTORABLE.search(str(root)):
        raise ManifestError(f"footage root {str(root)!r} does not exist, or has an unusable name")
    excluded = _Excluded(root, (exclude,) if isinstance(exclude, str) else exclude)
    folders = _folders_below(root, excluded)
    videos: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    unread: list[tuple[Path, str]] = []
    others: Counter[str] = Counter()
    waiting = [root] if root in folders else []
    while waiting:
        path = waiting.pop()
        folder = folders[path]
        if folder.is_video:
            videos.append(path)
            skipped += [(p, "lies in an image folder") for p in folder.folders]
            continue
        if folder.pictures >= 2 and not folder.videos:
            reason = f"its {folder.pictures} pictures are no video: footage lies in its subfolders"
            skipped.append((path, reason))
        videos += folder.videos
        skipped += folder.skipped + folder.unread
        unread += folder.unread
        others.update(folder.others)
        waiting += [p for p in folder.folders if p in folders]
    if root not in folders:  # one file
        if root.suffix.lower() in VIDEO_SUFFIXES or _content_of(root) is not None:
            videos.append(root)
        else:
            others[root.suffix.lower() or "no suffix"] += 1
    base = root if root in folders and root not in videos else root.parent

    def named(found: list[tuple[Path, str]]) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((p.relative_to(base).as_posix(), reason) for p, reason in found))

    return Listing(
        root=base,
        videos=tuple(sorted((p.relative_to(base).as_posix() for p in videos), key=path_key)),
        skipped=named(skipped),
        others=dict(others.most_common()),
        unread=named(unread),
        unused=tuple(excluded.unused),
    )


@dataclass
class _Folder:
    """What lies directly in a folder, and what is known of all below it."""

    videos: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    pictures: int = 0
    others: Counter[str] = field(default_factory=Counter)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    unread: list[tuple[Path, str]] = field(default_factory=list)
    most_pictures: int = 0  # in a folder below it
    hidden: bool = False  # whether something below it is a video, or may be one

    @property
    def is_video(self) -> bool:
        """Whether its pictures are one video."""
        alone = not self.videos and not self.unread and not self.hidden
        return self.pictures >= 2 and alone and self.most_pictures <= self.pictures


def _folders_below(root: Path, excluded: _Excluded) -> dict[Path, _Folder]:
    """The folder and all that are below it; those that cannot be read stand in the one above."""
    found: dict[Path, _Folder] = {}
    if not root.is_dir():
        return found
    above: dict[Path, Path] = {}
    waiting = [root]
    while waiting:
        path = waiting.pop()
        try:
            found[path] = folder = _look_into(path, excluded)
        except OSError as error:
            reason = (path, f"cannot be read: {error.strerror}")
            found.setdefault(above.get(path, path), _Folder()).unread.append(reason)
            continue
        above.update(dict.fromkeys(folder.folders, path))
        waiting += folder.folders
    for path in reversed(found):  # a folder is found before those in it
        if path != root:
            folder, outer = found[path], found[above[path]]
            outer.hidden |= bool(folder.videos or folder.unread or folder.hidden)
            inside = max(folder.pictures, folder.most_pictures)
            outer.most_pictures = max(outer.most_pictures, inside)
    return found


def _look_into(path: Path, excluded: _Excluded) -> _Folder:
    """What lies directly in a folder.

    Raises:
        OSError: it cannot be listed.
    """
    folder = _Folder()
    for entry in path.iterdir():
        if entry.name.startswith(".") or excluded(entry):
            continue
        suffix = entry.suffix.lower()
        try:
            reason = _unusable(entry)
            is_folder = reason is None and entry.is_dir()
            is_picture = suffix in IMAGE_SUFFIXES and not entry.is_symlink() and entry.is_file()
        except OSError as error:
            folder.unread.append((entry, f"cannot be read: {error.strerror}"))
            continue
        folder.pictures += is_picture
        if reason is not None:
            folder.skipped.append((entry, reason))
        elif is_folder:
            folder.folders.append(entry)
        elif suffix in VIDEO_SUFFIXES:
            folder.videos.append(entry)
        elif suffix not in NO_FOOTAGE and (kind := _content_of(entry)) is not None:
            folder.unread.append((entry, f"{_LIKELY} ({kind})"))
        else:
            folder.others[suffix or "no suffix"] += 1
    return folder


_LIKELY = (
    "is likely footage, but its suffix is not that of a video: give it the suffix of its format, "
    "or score a manifest that `vadpipe manifest footage --exclude PATTERN` writes without it"
)


def _content_of(path: Path) -> str | None:
    """The container that a file is likely to be; None for small files and for other contents."""
    try:
        if path.stat().st_size < LEAST_BYTES:
            return None
        with path.open("rb") as file:
            return format_of(file.read(HEAD))
    except OSError:
        return None  # a file of another suffix that cannot be opened is nothing special


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


def _others(listing: Listing) -> str:
    return ", ".join(f"{suffix} ({n})" for suffix, n in listing.others.items())
