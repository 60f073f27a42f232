"""What killed runs leave outside of the cache: named after their process, deleted once it is gone.

Semaphores of worker processes lie in /dev/shm, scratch folders in the system's folder of temporary
files, or beside what is made in them. A process that is killed, with all that it has started,
deletes none of them.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import process
from pathlib import Path

from .atomic import remove_anything

SHARED_MEMORY = Path("/dev/shm")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAME = re.compile(r"(?:sem\.)?vadpipe-([0-9a-f]+)-(\d+)-(\d+)-.*")


def own_prefix() -> str:
    """The beginning of names of what this process makes: it says which process that was.

    Numbers of processes are used again, each container has its own, and machines may share a
    folder of temporary files; so the name has the machine's boot and its space of numbers, the
    number and the time at which the process began.
    """
    space, began = _space(), _began(os.getpid())
    return "vadpipe-" if None in (space, began) else f"vadpipe-{space}-{os.getpid()}-{began}-"


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
                space, pid, began = found.groups()
                if space == _space() and _began(int(pid)) != int(began):
                    remove_anything(path)


def _space() -> str | None:
    """The space of numbers of processes that this one lives in, of this boot of this machine."""
    try:
        boot = _BOOT.read_text(encoding="utf-8")
        return f"{boot[:8]}{Path('/proc/self/ns/pid').stat().st_ino:x}"
    except OSError:
        return None  # another system


def _began(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; None if there is none.

    Raises:
        OSError: the system does not say now; the process may live.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None  # also where the system has no /proc
    return int(stat.rpartition(")")[2].split()[19])
