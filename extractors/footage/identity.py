"""Name a video by its content."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Literal

from .errors import EmptyFile
from .file_checks import FileChecks
from .image_folder import list_images
from .stamp import (
    changed,
    file_stamp,
    folder_stamp,
    regular_file,
    same_size,
    stamp_of,
    touched,
    wait_for_clock,
)
from .video import ProbeRow

HashMode = Literal["sampled", "full"]

MIB = 1 << 20
BLOCK, BLOCKS = 64 << 10, 16
PART = 4 * MIB  # that a whole file is read in
ALL_SAMPLED = 2 * MIB + BLOCKS * BLOCK  # bytes: of a file of that size, every byte is sampled


@dataclass(frozen=True)
class Identity:
    """What a file, or a folder of images, is.

    Attributes:
        content_id: see `content_id`.
        whole_id: an id that covers every byte: `content_id` where it does, else that of "full".
        stamp: of the file as it was read, see `stamp`.
    """

    content_id: str
    whole_id: str
    stamp: str


def content_id(path: Path, hash_mode: HashMode = "sampled") -> str:
    """Name a file, or a folder of images, by its content.

    Args:
        path: a file or a folder of images.
        hash_mode: "sampled" hashes the size, the first and last MiB and 16 blocks of 64 KiB spread
            evenly (every byte of a file of up to 3 MiB); "full" hashes every byte.

    Returns:
        `s1-` or `f1-` and the first 40 hex digits of a sha256. A folder is the hash of the ids of
        its images in natural order; their names count for that order only.

    Raises:
        MissingFile: there is no such file, or it may not be read.
        EmptyFile: it has no bytes.
        NoFrames: the folder holds no images.
        TouchedFile: it changes while it is read.
    """
    path = Path(path)
    if path.is_dir():
        return _folder_id([_file_id(image, hash_mode)[0] for image in list_images(path)], hash_mode)
    return _file_id(path, hash_mode)[0]


def identify(
    path: Path, hash_mode: HashMode = "sampled", limits: FileChecks | None = None
) -> Identity:
    """The content id of a file or folder, what proves it, and the stamp of what was read.

    Every byte is read. Where the file was written a moment ago, this waits until a later change can
    be told by its stamp.

    Args:
        path: a file or a folder of images.
        hash_mode: see `content_id`.
        limits: of the file, or of the images together; None takes the defaults.

    Raises:
        MissingFile, EmptyFile, NoFrames, TouchedFile: as `content_id`.
        OverLimit: it is too large, has too many holes, or reading it takes too long.
    """
    from .limits import DecodeLimits  # pydantic: the decoding process does without

    path, limits = Path(path), limits or DecodeLimits()
    until = time.monotonic() + 3600 * limits.hash_hours

    def check_time() -> None:
        limits.check_hashing(path, time.monotonic() <= until)

    if not path.is_dir():
        with regular_file(path) as file:
            if _not_stored(stat := os.fstat(file.fileno())) > limits.holes:
                limits.check_holes(path, _holes(file, limits.holes))
            wait_for_clock([stat])
        name, stat = _file_id(path, hash_mode, check_time)
        whole = name
        if hash_mode == "sampled" and stat.st_size > ALL_SAMPLED:
            whole, again = _file_id(path, "full", check_time)
            if file_stamp(again) != file_stamp(stat):
                raise touched(path)
        return Identity(name, whole, file_stamp(stat))
    images = list_images(path)
    sizes = [image.stat() for image in images]
    limits.check_bytes(path, sum(stat.st_size for stat in sizes))
    if sum(map(_not_stored, sizes)) > limits.holes:
        holes = 0
        for image in images:
            with regular_file(image) as file:
                holes += _holes(file, limits.holes - holes)
            limits.check_holes(path, holes)
    wait_for_clock(sizes)
    found = [_file_id(image, hash_mode, check_time) for image in images]
    stats = [stat for _, stat in found]
    name = whole = _folder_id([each for each, _ in found], hash_mode)
    if hash_mode == "sampled" and any(stat.st_size > ALL_SAMPLED for stat in stats):
        whole = _folder_id([_file_id(image, "full", check_time)[0] for image in images], "full")
    stamp = folder_stamp(images, stats)
    if stamp_of(path) != stamp:
        raise touched(path)
    return Identity(name, whole, stamp)


def still_probed(row: ProbeRow, limits: FileChecks | None = None) -> ProbeRow:
    """The row with the stamp of its file as it is now, if that still has the content of the row.

    A file with the stamp of the row is not read. One with another stamp is read: it may have been
    touched, copied back or linked, and nothing else.

    Args:
        row: from a probe.
        limits: see `identify`.

    Raises:
        ChangedFile: it has another content.
        OverLimit: reading it takes too long.
        MissingFile: it is gone.
    """
    if not row.stamp:
        return row  # made by hand: there is nothing to compare with
    path = Path(row.path)
    stamp = stamp_of(path)
    if stamp == row.stamp:
        return row
    if not same_size(stamp, row.stamp):
        raise changed(path)
    if _whole_id(path, row.whole_id[:3], stamp, limits) != row.whole_id:
        raise changed(path)
    return replace(row, stamp=stamp)


@lru_cache(maxsize=1024)
def _whole_id(path: Path, prefix: str, stamp: str, limits: FileChecks | None) -> str:
    """The whole id of a file with this stamp: spans of one video do not read it again and again."""
    found = identify(path, "full" if prefix == "f1-" else "sampled", limits)
    if found.stamp != stamp:
        raise touched(path)
    return found.whole_id


def _folder_id(ids: Sequence[str], hash_mode: HashMode) -> str:
    return _prefix(hash_mode) + hashlib.sha256("\n".join(ids).encode()).hexdigest()[:40]


def _file_id(
    path: Path, hash_mode: HashMode, check_time: Callable[[], None] = lambda: None
) -> tuple[str, os.stat_result]:
    """The id of a file, and its state while it was read."""
    with regular_file(path) as file:
        stat = os.fstat(file.fileno())
        if stat.st_size == 0:
            raise EmptyFile(f"{path}: the file is empty; copy it again or drop it")
        if hash_mode == "full":
            digest = _whole_digest(file, check_time)
        else:
            digest = _sampled_digest(file, stat.st_size, check_time)
        if file_stamp(os.fstat(file.fileno())) != file_stamp(stat):
            raise touched(path)
    return _prefix(hash_mode) + digest[:40], stat


def _not_stored(stat: os.stat_result) -> int:
    """Bytes without a place on the disk: holes, and what compression saves."""
    return max(0, stat.st_size - 512 * stat.st_blocks)


def _holes(file: BufferedReader, most: int) -> int:
    """Bytes of a file that were never written; counting ends when there are more than `most`."""
    size = os.fstat(file.fileno()).st_size
    at = found = 0
    try:
        while at < size and found <= most:
            hole = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            if hole >= size:  # the end counts as one
                break
            try:
                at = os.lseek(file.fileno(), hole, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                at = size  # it goes on to the end
            found += at - hole
    except OSError:  # a file system that does not know; its files are bounded in time
        return 0
    finally:
        file.seek(0)
    return found


def _prefix(hash_mode: HashMode) -> str:
    return {"sampled": "s1-", "full": "f1-"}[hash_mode]


def _whole_digest(file: BufferedReader, check_time: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    part = memoryview(bytearray(PART))
    # One read of the system at a time: a slow server is looked at after each answer.
    while count := file.readinto1(part):
        digest.update(part[:count])
        check_time()
    return digest.hexdigest()


def _sampled_digest(file: BufferedReader, size: int, check_time: Callable[[], None]) -> str:
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    if size <= ALL_SAMPLED:
        parts = [(0, size)]
    else:
        room = size - 2 * MIB - BLOCK  # where blocks may start, from the end of the first MiB
        parts = [(0, MIB), (size - MIB, MIB)]
        parts += [(MIB + room * i // (BLOCKS - 1), BLOCK) for i in range(BLOCKS)]
    for start, length in parts:
        file.seek(start)
        while length and (piece := file.read1(length)):
            digest.update(piece)
            length -= len(piece)
            check_time()
    return digest.hexdigest()
