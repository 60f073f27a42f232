"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...data_manifests.errors import VadpipeError


class StoreError(VadpipeError, RuntimeError):
    """Something in the cache is missing or not what it should be."""


class CannotWrite(StoreError):
    """The disk is full or read-only: no further span will do any better."""


# What no repetition cures; HDF5 tells it within its message.
_UNWRITABLE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EACCES", "EPERM")
    if hasattr(errno, name)
}
_ERRNO = re.compile(r"errno = (\d+)")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary file in the same folder, then move it to its final name.

    The data and the folder are synced to disk, so the final name never shows half a file.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    name = f".{path.name}.{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    temporary = path.parent / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, RuntimeError) as error:
        number = _errno_of(error)
        if number not in _UNWRITABLE:
            raise
        raise CannotWrite(
            f"{path} cannot be written: {os.strerror(number)}. Make room, or make it writable, and "
            "run the same command again: what is finished is kept"
        ) from error


def write_table(path: Path, table: pa.Table, **options: Any) -> None:
    """Write a Parquet file whole or not at all.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    write_atomically(path, lambda p: pq.write_table(table, p, **options))


def _errno_of(error: OSError | RuntimeError) -> int:
    found = _ERRNO.search(str(error))
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    return int(found[1]) if found else 0
