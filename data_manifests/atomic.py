"""Files that are written whole or not at all: the only place that renames a file into place."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import VadpipeError

if TYPE_CHECKING:
    import pyarrow as pa

STALE_SECONDS = 24 * 3600
# What `write_atomically` names its files.
_OURS = re.compile(r"\..+\.[^/]+-\d+-[0-9a-f]{8}\.tmp", re.DOTALL)


class CannotWrite(VadpipeError, RuntimeError):
    """The disk is full or read-only: repeating the write does not help."""


# Errors that do not pass by themselves. HDF5 puts the number into its message.
_UNWRITABLE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EACCES", "EPERM")
    if hasattr(errno, name)
}
_ERRNO = re.compile(r"errno = (\d+)")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary file in the same folder, then move it to its final name.

    The folder is made if it is missing. The data and the folder (with those above it that are
    new) are synced to disk, so the final name never shows half a file, also after a power cut. The
    first write to a folder deletes what killed processes have left there.

    Args:
        path:
            The final name; a file that is there is replaced.
        write:
            Writes all of the content to the path that it is called with.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    name = f".{path.name}.{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    temporary = path.parent / name
    try:
        here = path.parent.is_dir()
        new = [] if here else [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        try:
            write(temporary)
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        for folder in (path.parent, *(each.parent for each in new)):
            _sync(folder)
    except (OSError, RuntimeError) as error:
        number = _errno_of(error)
        if number not in _UNWRITABLE:
            raise
        raise CannotWrite(
            f"{path} cannot be written: {os.strerror(number)}. Make room, or make it writable, and "
            "run the same command again: what is finished is kept"
        ) from error


@lru_cache(maxsize=1024)  # an archive has more folders than fit into memory
def _tidy(folder: Path) -> None:
    """Look for old temporary files once for many writes to a folder."""
    remove_stale(folder)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) whole or not at all.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))


def write_table(path: Path, table: pa.Table, **options: Any) -> None:
    """Write a Parquet file whole or not at all.

    Args:
        path:
            The final name.
        table:
            All rows.
        options:
            Of `pyarrow.parquet.write_table`.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    import pyarrow.parquet as pq

    write_atomically(path, lambda p: pq.write_table(table, p, **options))


def remove_anything(path: Path) -> None:
    """Delete what lies at the name of a file: a file, a link, or a folder with all that is in it.

    Raises:
        OSError: it cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Delete temporary files that a killed process of ours has left in a folder, by their age."""
    for path in folder.glob(".*.tmp"):
        if not _OURS.fullmatch(path.name):
            continue  # of another program: results may be written anywhere
        with suppress(OSError):  # another process was faster, or it is another user's
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink(missing_ok=True)


def _errno_of(error: OSError | RuntimeError) -> int:
    found = _ERRNO.search(str(error))
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    return int(found[1]) if found else 0
