"""What killed runs leave outside of the cache: named after their process, deleted once it is gone.

Semaphores of worker processes lie in /dev/shm, scratch folders in the system's folder of temporary
files. A process that is killed, with all that it has started, deletes neither.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import process
from pathlib import Path

from ...data_manifests.atomic import remove_anything

SHARED_MEMORY = Path("/dev/shm")
_NAME = re.compile(r"(?:sem\.)?vadpipe-(\d+)-(\d+)-(\d+)-.*")


def own_prefix() -> str:
    """The beginning of names of what this process makes: it says which process that was.

    Numbers of processes are used again, and each container has its own; so the name has the space
    of numbers, the number and the time at which the process began.
    """
    began = _began(os.getpid())
    return "vadpipe-" if began is None else f"vadpipe-{_space()}-{os.getpid()}-{began}-"


def name_semaphores() -> None:
    """Let the semaphores that this process makes from now on have its prefix."""
    if SHARED_MEMORY.is_dir():
        config = vars(process.current_process())["_config"]  # Python has no other way
        config["semprefix"] = f"/{own_prefix().rstrip('-')}"


def remove_leftovers(folders: Iterable[Path] | None = None) -> None:
    """Delete what processes of this user have left that are gone.

    Args:
        folders:
            Where to look; None takes the usual places.
    """
    for folder in folders or (SHARED_MEMORY, Path(tempfile.gettempdir())):
        for path in folder.glob("*vadpipe-*"):
            found = _NAME.fullmatch(path.name)
            with suppress(OSError):  # another process was faster
                if found is None or path.lstat().st_uid != os.getuid():
                    continue
                space, pid, began = map(int, found.groups())
                if space == _space() and _began(pid) != began:
                    remove_anything(path)


def _space() -> int:
    """The space of numbers of processes that this process lives in."""
    return Path("/proc/self/ns/pid").stat().st_ino


def _began(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None  # also where the system has no /proc
    return int(stat.rpartition(")")[2].split()[19])
