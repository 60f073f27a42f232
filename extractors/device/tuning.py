"""What was tried out on a machine, and is remembered: batch sizes and forms of first layers."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
from functools import cache
from pathlib import Path

import torch

from ...data_manifests.atomic import CannotWrite, write_text
from ...data_manifests.stored import DamagedFile, leave_out, read_json
from ..networks.folding import FORMS, Form

MOST_ITEMS = 1024  # of a batch


class Tuning:
    """Findings by name, kept in a JSON file of the machine: batch sizes, and forms.

    Args:
        path:
            The file.

    Attributes:
        lock: to be held from the search for a finding until it is noted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, int | Form] = {}
        self.lock = threading.RLock()

    def find(self, key: str) -> int | Form | None:
        """What is known under a name: in this process, else in the file."""
        with self.lock:
            if key not in self._known:
                self._known = self._read() | self._known  # what this process noted stays
            return self._known.get(key)

    def note(self, key: str, found: int | Form, *, keep: bool) -> None:
        """Note a finding in this process, and in the file if it is to be kept."""
        with self.lock:
            self._known[key] = found
            if not keep:
                return
            known = self._read() | {key: found}
            # If the file cannot be written, the next process tries again; the run goes on.
            with contextlib.suppress(OSError, CannotWrite):
                write_text(self._path, json.dumps(known, indent=1, sort_keys=True))

    def _read(self) -> dict[str, int | Form]:
        try:
            return read_tuning(self._path)
        except FileNotFoundError:
            return {}
        except (OSError, DamagedFile) as error:
            leave_out(self._path, error, "measured again; vadpipe cache repair deletes it")
            return {}


def read_tuning(path: Path) -> dict[str, int | Form]:
    """What was found on processors, by name: batch sizes, and forms of first layers.

    Raises:
        DamagedFile: it holds something else.
        OSError: there is no such file, or it may not be read.
    """
    found: dict[str, int | Form] = {}
    for key, value in read_json(path).items():
        if type(value) is int and value > 0:
            found[key] = min(value, MOST_ITEMS)
        elif isinstance(value, str) and value in FORMS:
            found[key] = value
        else:
            raise DamagedFile(
                f"{path} is damaged (a value is no number above 0 and none of {', '.join(FORMS)})"
            )
    return found


@cache
def processor(device: str) -> str:
    """The name of the GPU, or of the CPU with its number of cores."""
    if device != "cpu":
        return torch.cuda.get_device_name(torch.device(device))
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name} x{os.cpu_count()}"
