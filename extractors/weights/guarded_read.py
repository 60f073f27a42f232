"""Read weights of others in another process: a hostile file costs one message.

What the process says comes back as safetensors and text; nothing is unpickled here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...data_manifests.leftovers import own_prefix, remove_leftovers
from ...data_manifests.memory import check_memory
from .cards import Converter, LayoutError, WeightsError
from .read_worker import MISFIT, REFUSED

WORKER = f"{__package__}.read_worker"
MEMORY = 3 << 30  # bytes for Python and torch
MEMORY_GROWTH = 8  # and for each byte of the file: it is unpacked, converted and written
OPAQUE_MEMORY_GROWTH = 40  # of a text: the file twice, and its arrays while they grow
OPAQUE_SLOWER = 4  # a text is read row by row
MOST_BYTES = 64 << 30  # of the file: its hash alone takes minutes
SECONDS = 300.0
BYTES_A_SECOND = 2 << 20  # of a large file on a slow disk
MOST_SAID = 10_000  # bytes of a message


def check_size(path: Path) -> None:
    """Refuse a file that is larger than any weights, before it is read.

    Raises:
        WeightsError: it is.
        OSError: there is no such file.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise WeightsError(
            f"{path} has {size:,} bytes, and weights have {MOST_BYTES:,} at most: give the file of "
            "the weights"
        )


def guarded_arrays(
    path: Path, folder: Path, convert: Converter | None = None
) -> dict[str, NDArray[Any]]:
    """`read_arrays` in another process, which the kernel bounds in memory and time.

    Args:
        path:
            The file.
        convert:
            Of the card of an opaque file, which is called there in place of `read_arrays`.
        folder:
            Where the arrays lie meanwhile, in a folder of their own; it has the room that converted
            weights need anyway. What killed processes have left there is deleted.

    Raises:
        WeightsError: the file cannot be read, or the process died, hung or needed too much memory,
            or the disk is full.
        LayoutError: `convert` says so.
        OutOfMemory: there is less memory than what came out of it takes.
        OSError: there is no such file, or the folder cannot be written.
    """
    size = path.stat().st_size
    growth = (MEMORY_GROWTH if convert is None else OPAQUE_MEMORY_GROWTH) * size
    memory, seconds = MEMORY + growth, SECONDS + size / BYTES_A_SECOND
    if convert is not None:
        seconds *= OPAQUE_SLOWER
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers([folder])
    with tempfile.TemporaryDirectory(prefix=own_prefix(), dir=folder.absolute()) as scratch:
        target, said, errors = (Path(scratch) / name for name in ("arrays", "said", "errors"))
        arguments = [str(a) for a in (path.absolute(), target, memory, round(seconds) + 1)]
        if convert is not None:
            arguments.append(_name_of(convert))
        with said.open("wb") as output, errors.open("wb") as error_output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", WORKER, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=error_output,
                start_new_session=True,  # ctrl-C is for the parent to act on
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = -signal.SIGXCPU
            finally:
                process.kill()
                process.wait()
        if code == 0:
            return _received(path, target)
        if code in (REFUSED, MISFIT):
            raise (WeightsError if code == REFUSED else LayoutError)(_beginning(said))
        if code == -signal.SIGXCPU:
            raise WeightsError(
                f"cannot read weights from {path}: reading took longer than {seconds:.0f} seconds: "
                "the file is damaged or hostile, or its disk is very slow: get it again"
            )
        died = f"signal {-code}" if code < 0 else f"exit code {code}: {_last_line(errors)}"
        raise WeightsError(
            f"cannot read weights from {path}: the process that read it died ({died}): the file "
            "is damaged or hostile, or memory ran out: get it again"
            + ("" if code < 0 else "; if the error is about vadpipe itself, install that again")
        )


def _name_of(convert: Converter) -> str:
    """MODULE:NAME of a function, by which the process finds it.

    Raises:
        WeightsError: it has none.
    """
    module, name = getattr(convert, "__module__", ""), getattr(convert, "__qualname__", "")
    found = getattr(sys.modules.get(module), name, None)
    if module == "__main__" or found is not convert:  # `__main__` of the process is another one
        raise WeightsError(
            f"{convert!r} reads an opaque file, and is no function of a module: the process that "
            "reads weights could not find it; define it with def, outside of functions and "
            "classes, in a module that can be imported"
        )
    return f"{module}:{name}"


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MOST_SAID).decode("utf-8", "replace")


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MOST_SAID))
        lines = file.read(MOST_SAID).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def _received(path: Path, target: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        # Once as arrays, and once as what is kept of them.
        check_memory(2 * target.stat().st_size, f"{path} as arrays", "give a smaller file")
        with safe_open(target, framework="numpy") as opened:
            names = json.loads((opened.metadata() or {})["names"])
            return {str(name): opened.get_tensor(str(i)) for i, name in enumerate(names)}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"cannot read weights from {path}: the process that read it sent an answer that means "
            f"nothing ({error}): the file is damaged or hostile; get it again"
        ) from error
