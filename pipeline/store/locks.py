"""Who writes to a feature set and who deletes it, and who trains a model: never two at once.

The locks are files in `locks/` of the cache, outside of what is deleted. They end with their
process. A file server without locks has none of this; an extraction notices at its end that its
set went.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path

from ...data_manifests.atomic import remove_anything
from ...data_manifests.plain_text import one_line
from .errors import StoreError

logger = logging.getLogger(__name__)


@contextmanager
def writing(roots: Sequence[Path]) -> Iterator[None]:
    """Let no process delete feature sets (their folders) meanwhile; several runs may write at once.

    Raises:
        StoreError: one is being deleted.
    """
    with ExitStack() as held:
        for root in roots:
            busy = f"{root.name} is being deleted (vadpipe cache rm): run the same command again"
            held.enter_context(_locked(root, fcntl.LOCK_SH, busy))
        yield


@contextmanager
def deleting(root: Path) -> Iterator[None]:
    """Let no process write to a feature set meanwhile.

    Raises:
        StoreError: a run is writing to it.
    """
    busy = f"a run is writing to {root.name}: wait until it ends (vadpipe status), or end it"
    with _locked(root, fcntl.LOCK_EX, busy):
        yield


@contextmanager
def training(model: Path) -> Iterator[None]:
    """Let no other process train this model (its folder in a cache) meanwhile.

    Raises:
        StoreError: one trains it.
    """
    busy = f"another run trains {model.name} now: run the same command again when it has ended"
    with _locked(model, fcntl.LOCK_EX, busy):
        yield


def mark_used(root: Path) -> None:
    """Let a folder count as used now, for `cache gc`; one that cannot be marked stays as it is."""
    with suppress(OSError):
        os.utime(root)


def lock_file(path: Path) -> FileIO:
    """Open a file to lock it; it is made if it is missing, and a pipe is not waited for.

    What cannot be a lock at its name (a folder, a link that leads to none) is deleted.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        return _opened(path)
    except OSError as error:
        leads_nowhere = error.errno == errno.ENOENT and path.is_symlink()
        if error.errno not in (errno.EISDIR, errno.ELOOP, errno.ENXIO) and not leads_nowhere:
            raise
    remove_anything(path)
    return _opened(path)


def _opened(path: Path) -> FileIO:
    return FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666), "r")


@contextmanager
def _locked(root: Path, kind: int, busy: str) -> Iterator[None]:
    path = root.parent.parent / "locks" / root.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(path) as handle:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(busy) from None
        except OSError as error:
            logger.warning(
                "%s cannot be locked (%s): see that one run at a time uses it",
                one_line(str(path)),
                error,
            )
        yield
