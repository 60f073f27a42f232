"""The process that reads weights of others: `python -m vadpipe.extractors.weights.read_worker`.

Its arguments are the file, where to put the arrays, bytes of memory and seconds of computing; for
an opaque file also MODULE:NAME of the `convert` of its card. It writes safetensors whose tensors
are called "0", "1", ...; their names are JSON in its metadata. If the file cannot be read it prints
why and ends with `REFUSED`, or with `MISFIT` where `convert` finds another layout. The other side
is `guarded_read`.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cards import BYTES, LayoutError, WeightsError
from .read import read_arrays

REFUSED, MISFIT = 3, 4
MOST_OPAQUE = 64 << 20  # bytes of the arrays of an opaque file, and
RESULT_GROWTH = 32  # for each byte of it: a row of 12 bytes becomes one of 360


def main(source: str, target: str, memory: str, seconds: str, convert: str = "") -> int:
    """Read a file and write its arrays; returns the exit code."""
    _bound(resource.RLIMIT_DATA, int(memory))
    _bound(resource.RLIMIT_CPU, int(seconds))
    _bound(resource.RLIMIT_CORE, 0)
    try:
        arrays = converted(Path(source), convert) if convert else read_arrays(Path(source))
        write_arrays(arrays, Path(target))
    except LayoutError as error:
        print_text(str(error))
        return MISFIT
    except WeightsError as error:
        print_text(str(error))
        return REFUSED
    except (MemoryError, OSError) as error:
        print_text(f"cannot read weights from {source}: {error or 'memory ran out'}")
        return REFUSED
    return 0


def converted(source: Path, convert: str) -> dict[str, NDArray[Any]]:
    """The arrays of an opaque file.

    Raises:
        LayoutError: it has another layout.
        WeightsError: its arrays are too large for a file of its size.
    """
    module, _, name = convert.partition(":")
    arrays: dict[str, NDArray[Any]]
    arrays = getattr(import_module(module), name)({BYTES: np.fromfile(source, np.uint8)})
    most = MOST_OPAQUE + RESULT_GROWTH * source.stat().st_size
    if (size := sum(values.nbytes for values in arrays.values())) > most:
        raise WeightsError(
            f"cannot read {source}: what it holds takes {size:,} bytes, more than {most:,}, which "
            "a file of its size may take: it is damaged or hostile, or compressed too well: write "
            "it as CSV"
        )
    return arrays


def write_arrays(arrays: Mapping[str, NDArray[Any]], target: Path) -> None:
    """Write arrays of numbers as numbered safetensors; others are left out.

    Raises:
        WeightsError: the disk is full, or the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    kept = {name: values for name, values in arrays.items() if values.dtype.kind in "biuf"}
    numbered = {  # reshaped because () would become (1,)
        str(i): np.ascontiguousarray(v).reshape(v.shape) for i, v in enumerate(kept.values())
    }
    try:
        save_file(numbered, target, {"names": json.dumps(list(kept))})
    except (SafetensorError, OSError) as error:
        size = sum(values.nbytes for values in kept.values())
        raise WeightsError(
            f"the weights were read, but their {size:,} bytes cannot be written to "
            f"{target.parent.parent} ({error}): the disk is full or read-only: make room, or put "
            "the cache elsewhere (--cache)"
        ) from error


def print_text(text: str) -> None:
    """Write to standard output, whatever characters there are."""
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))


def _bound(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (soft, hard))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
