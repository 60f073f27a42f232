"""Whether a file, or a folder of images, is still what it was: size, times of change and inode.

A stamp is compared, never understood. Equal stamps mean that nothing has been written since, as the
time of a change of state (ctime) cannot be set by a program. Different stamps do not mean another
content: that takes reading.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG

from .errors import ChangedFile, MissingFile, TouchedFile
from .image_folder import list_images

TICK = 0.02  # seconds: clocks of file systems are finer
COARSE = 2.0  # FAT; a time of whole seconds may come from such a file system
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG}


def stamp_of(path: Path) -> str:
    """The stamp of a file, or of the images of a folder with their names.

    Raises:
        MissingFile: it is gone, or may not be read.
        DecodeError: the folder has no images, or one that leads out of it.
        OSError: the file server does not answer now.
    """
    path = Path(path)
    stat = _stat(path)
    if not path.is_dir():
        return file_stamp(stat)
    images = list_images(path)
    return folder_stamp(images, [_stat(image) for image in images])


def file_stamp(stat: os.stat_result) -> str:
    """The stamp of a file."""
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}:{stat.st_ino}"


def folder_stamp(images: Sequence[Path], stats: Sequence[os.stat_result]) -> str:
    """The stamp of a folder of images, in their order."""
    lines = [f"{path.name}\0{file_stamp(stat)}" for path, stat in zip(images, stats, strict=True)]
    digest = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
    return f"{sum(stat.st_size for stat in stats)}:{len(lines)}:{digest[:40]}"


def same_size(a: str, b: str) -> bool:
    """Whether two stamps are of files of one size; other sizes are other contents."""
    return a.partition(":")[0] == b.partition(":")[0]


def check_stamp(path: Path, stamp: str) -> None:
    """Refuse a file that has changed while it was read.

    Args:
        path:
            A file or a folder of images.
        stamp:
            Of when reading began; "" where there was nothing to compare with.

    Raises:
        TouchedFile: it has changed.
        MissingFile: it is gone.
    """
    if stamp and stamp_of(path) != stamp:
        raise touched(path)


def touched(path: Path) -> TouchedFile:
    """The error of a file that changes while it is read."""
    return TouchedFile(
        f"{path}: it has changed since it was probed, while it was read: wait until nothing writes "
        "to it, then run probe or extract again"
    )


def changed(path: Path) -> ChangedFile:
    """The error of a file that is another one now."""
    return ChangedFile(f"{path}: it has changed since it was probed: run probe or extract again")


@contextmanager
def regular_file(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file; a pipe is refused, opening one would wait for ever.

    Raises:
        MissingFile: it is no regular file, or cannot be opened or read.
    """
    with _opened(path) as file:
        try:
            yield file
        except OSError as error:
            raise MissingFile(f"{path}: cannot be read: {error.strerror}") from error


def _opened(path: Path) -> BufferedReader:
    missing = f"{path}: there is no such file; check the path in the manifest"
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except FileNotFoundError as error:
        raise MissingFile(missing) from error
    except OSError as error:
        raise MissingFile(f"{path}: cannot be read: {error.strerror}") from error
    if S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise MissingFile(missing)


@contextmanager
def same_file(path: Path, stamp: str) -> Iterator[None]:
    """Hold a file open while another library opens it by name: it opens the one with this stamp.

    A file that is moved here and back again in the meantime has another stamp afterwards.

    Raises:
        TouchedFile: the file has another stamp, before or after the library has opened it.
        MissingFile: it is gone, or no regular file.
    """
    if not stamp:
        yield
        return
    with _opened(path) as file:
        if file_stamp(os.fstat(file.fileno())) != stamp:
            raise touched(path)
        yield
        if file_stamp(_stat(path)) != stamp:
            raise touched(path)


def wait_for_clock(stats: Sequence[os.stat_result]) -> None:
    """Wait until a change from now on would have another time than the last one.

    File systems count time in ticks: a file that is written twice within one has the same time.
    """
    now = time.time()
    until = now
    for stat in stats:
        for when in (stat.st_mtime_ns, stat.st_ctime_ns):
            tick = COARSE if when % 10**9 == 0 else TICK
            if now - tick < when / 1e9 <= now:
                until = max(until, when / 1e9 + tick)
    time.sleep(max(0.0, until - now))


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        if error.errno not in _GONE:
            raise
        raise MissingFile(f"{path}: cannot be read: {error.strerror}") from error
