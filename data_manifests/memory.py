"""How much memory this process may still take, asked before an untrusted size is believed."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Self

from .errors import VadpipeError


class OutOfMemory(VadpipeError, MemoryError):
    """Something needs more memory than there is; the message says what, and what to do next."""

    def __new__(cls, *args: object) -> Self:
        """Make one; that of `MemoryError` refuses a class with another base before it.

        Python itself does not call it, but what unpickles errors of other processes does.
        """
        return Exception.__new__(cls, *args)


def check_memory(needed: int, what: str, cure: str) -> None:
    """Refuse what does not fit into the memory that is left.

    Args:
        needed:
            Bytes.
        what:
            Needs them; the message begins with it.
        cure:
            What to do.

    Raises:
        OutOfMemory: there is less.
    """
    free = available_bytes()
    if free is not None and needed > free:
        raise OutOfMemory(f"{what} needs {needed:,} bytes of memory, and {free:,} are left: {cure}")


def available_bytes() -> int | None:
    """Bytes that this process can take now without swapping; None where the system does not say.

    The least of what the machine has left, what the control group and those above it may still
    take, and the process's own limits (`ulimit -v`, `ulimit -d`).
    """
    return min([*_of_machine("MemAvailable"), *_of_group(left=True), *_of_process()], default=None)


def total_bytes() -> int | None:
    """Bytes that this process could take if nothing else ran; None where this is not known."""
    return min([*_of_machine("MemTotal"), *_of_group(left=False), *_of_process()], default=None)


MEMINFO = Path("/proc/meminfo")
STATM = Path("/proc/self/statm")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = (  # folder, controller in OWN_GROUPS, limit, use, what of the use can be dropped
    (Path("/sys/fs/cgroup"), "", "memory.max", "memory.current", "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory"),
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def _of_machine(name: str) -> Iterator[int]:
    for line in _text(MEMINFO).splitlines():
        if line.startswith(f"{name}:"):
            yield int(line.split()[1]) << 10


def _of_group(*, left: bool) -> Iterator[int]:
    for root, controller, most, used, spare in GROUPS:
        for folder in _groups(root, controller):
            limit, use = _text(folder / most).strip(), _text(folder / used).strip()
            if limit.isdigit() and use.isdigit() and int(limit) < 1 << 60:  # "max", or all there is
                facts = dict(
                    pair
                    for line in _text(folder / "memory.stat").splitlines()
                    if len(pair := line.split()) == 2
                )
                taken = int(use) - int(facts.get(spare, 0))
                yield max(0, int(limit) - taken) if left else int(limit)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The group of this process and those above it; a container may show the root only."""
    yield root
    for line in _text(OWN_GROUPS).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        below = PurePosixPath(path.lstrip("/"))
        if controller in controllers.split(",") and ".." not in below.parts:
            yield from (root / each for each in (below, *below.parents) if each.parts)


def _of_process() -> Iterator[int]:
    pages = _text(STATM).split()
    for kind, place in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        soft = resource.getrlimit(kind)[0]
        if soft != resource.RLIM_INFINITY and len(pages) > place:
            yield max(0, soft - int(pages[place]) * os.sysconf("SC_PAGE_SIZE"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # another system, or a container that hides it
        return ""
