"""What of this machine vadpipe depends on: programs, codecs, devices, memory, folders, weights."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from ..data_manifests.memory import available_bytes, total_bytes
from ..extractors.device.inference import available_precisions
from ..extractors.device.present import cuda_count
from ..extractors.weights.kept import ls
from .engine.settings import cpu_count
from .registry import cards_in_use

State = Literal["ok", "warning", "problem"]

OPENCV = (  # they all install the same module, and the last one wins
    *("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "opencv-contrib-python-headless",
)
CODECS = ("h264", "hevc", "mpeg4", "mjpeg", "vp9", "av1", "mpeg2video")
FEW_BYTES = 10 << 30  # of a cache: features of an hour or two of footage
LITTLE_MEMORY = 4 << 30  # a network and its clips
HELP = "this check could not be made: the message says why"


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    Attributes:
        check: what was looked at.
        state: "ok"; "warning" if something will not work or be slow; "problem" if nothing will.
        said: what is there.
        advice: what to do; "" if nothing has to be done.
    """

    check: str
    state: State
    said: str
    advice: str = ""


def examine(cache: Path) -> list[Finding]:
    """Look at this machine; nothing is left on it.

    Args:
        cache:
            Root folder of the cache; it need not exist.

    Returns:
        One finding or more for each check. A check that cannot be made is a problem, not an error.
    """
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": _python,
        "packages": _packages,
        "opencv": _opencv,
        "codecs": _codecs,
        "processor": _processor,
        "gpu": _gpus,
        "memory": _memory,
        "cache": lambda: _cache(cache),
        "temporary files": _temporary,
        "weights": lambda: _weights(cache),
    }
    found: list[Finding] = []
    for name, check in checks.items():
        try:
            found += check()
        except (OSError, ImportError, RuntimeError, ValueError) as error:
            found.append(Finding(name, "problem", f"{type(error).__name__}: {error}", HELP))
    return found


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding("python", "ok", f"{version} at {sys.executable}, {platform.platform()}")


def _packages() -> Iterator[Finding]:
    """What vadpipe's own metadata requires, with the bounds of versions."""
    versions = [f"vadpipe {metadata.version('vadpipe')}"]
    wrong = []
    for text in metadata.requires("vadpipe") or ():
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        if (found := _version(needed.name)) is None:
            wrong.append(f"{needed.name} is missing")
            continue
        versions.append(f"{needed.name} {found}")
        if not needed.specifier.contains(found, prereleases=True):
            wrong.append(f"{needed.name} {found} is not {needed.specifier}")
    yield Finding("packages", "ok", ", ".join(versions))
    if wrong:
        advice = "install vadpipe again, with its constraints.txt"
        yield Finding("packages", "problem", "; ".join(wrong), advice)


def _version(name: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _opencv() -> Iterator[Finding]:
    there = [f"{name} {found}" for name in OPENCV if (found := _version(name)) is not None]
    if len(there) > 1:
        yield Finding(
            "opencv",
            "problem",
            f"{', '.join(there)} overwrite each other",
            "uninstall all of them, then install opencv-contrib-python-headless alone",
        )
        return
    import cv2

    if hasattr(cv2, "optflow"):
        yield Finding("opencv", "ok", f"{cv2.__version__} with contrib")
    else:
        advice = "install opencv-contrib-python-headless in place of it"
        yield Finding("opencv", "warning", f"{cv2.__version__} without contrib: no TV-L1", advice)


def _codecs() -> Iterator[Finding]:
    import av

    missing = []
    for name in CODECS:
        try:
            av.codec.Codec(name, "r")
        except ValueError:  # PyAV's error for a codec that FFmpeg was built without
            missing.append(name)
    there = [name for name in CODECS if name not in missing]
    versions = ".".join(map(str, av.library_versions.get("libavcodec", ())))
    yield Finding("codecs", "ok", f"{', '.join(there)} (libavcodec {versions})")
    if missing:
        advice = "install PyAV from its wheel, or build FFmpeg with these decoders"
        yield Finding("codecs", "warning", f"no decoder of {', '.join(missing)}", advice)


def _processor() -> Iterator[Finding]:
    precisions = ", ".join(available_precisions("cpu"))
    yield Finding("processor", "ok", f"{cpu_count()} cores for this process; {precisions}")


def _gpus() -> Iterator[Finding]:
    import torch

    count = cuda_count()
    if not count:
        yield Finding("gpu", "ok", "none that torch can use: networks run on the processor")
    for number in range(count):
        facts = torch.cuda.get_device_properties(number)
        precisions = ", ".join(available_precisions(f"cuda:{number}"))
        memory = _size(facts.total_memory)
        yield Finding("gpu", "ok", f"cuda:{number} {facts.name}, {memory}; {precisions}")


def _memory() -> Iterator[Finding]:
    total, left = total_bytes(), available_bytes()
    if total is None or left is None:
        yield Finding("memory", "warning", "the system does not say how much there is")
        return
    said = f"{_size(left)} left of {_size(total)} (machine, control groups and limits)"
    if left < LITTLE_MEMORY:
        advice = "end other programs, or take --streams 1 and a smaller --batch-size"
        yield Finding("memory", "warning", said, advice)
    else:
        yield Finding("memory", "ok", said)


def _cache(cache: Path) -> Iterator[Finding]:
    there = cache
    while not there.exists() and there != there.parent:
        there = there.parent
    new = "" if there == cache else " (it will be made)"
    if not there.is_dir():
        yield Finding("cache", "problem", f"{there} is no folder", "name another one with --cache")
        return
    if not os.access(there, os.W_OK | os.X_OK):
        advice = "name another one with --cache, or VADPIPE_CACHE"
        yield Finding("cache", "problem", f"{there} may not be written to", advice)
        return
    free = shutil.disk_usage(there).free
    said = f"{cache}{new}, {_size(free)} free"
    if free < FEW_BYTES:
        yield Finding("cache", "warning", said, "name a larger disk with --cache")
    else:
        yield Finding("cache", "ok", said)
    if problem := _lock_problem(there):
        advice = "see that no two runs use it at once, or take a local disk"
        yield Finding("cache", "warning", f"{there} has no locks ({problem})", advice)


def _lock_problem(folder: Path) -> str | None:
    """Why files of a folder cannot be locked; None if they can be."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return str(error)
    return None


def _temporary() -> Iterator[Finding]:
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    state: State = "warning" if free < LITTLE_MEMORY else "ok"
    advice = "name a folder with more room in TMPDIR" if state == "warning" else ""
    yield Finding("temporary files", state, f"{_size(free)} free in {folder}", advice)


def _weights(cache: Path) -> Iterator[Finding]:
    uses = list(cards_in_use().values())
    rows = ls([use.card for use in uses], cache)
    present = [row.name for row in rows if row.state == "present"]
    broken = [row.name for row in rows if row.state == "broken"]
    missing = len(rows) - len(present) - len(broken)
    listed = f": {', '.join(present)}" if present else ""
    yield Finding(
        "weights",
        "ok" if present else "warning",
        f"{len(present)} of {len(rows)} cards are here{listed}; {missing} are not fetched",
        "" if present else "vadpipe weights ls, then vadpipe weights fetch NAME",
    )
    for name in broken:
        advice = f"vadpipe weights fetch {name}"
        yield Finding("weights", "problem", f"{name} is damaged", advice)


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"
