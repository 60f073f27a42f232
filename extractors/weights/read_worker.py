"""The process that reads weights of others: `python -m vadpipe.extractors.weights.read_worker`.

Its arguments are the file, where to put the arrays, bytes of memory and seconds of computing. It
writes safetensors whose tensors are called "0", "1", ...; their names are JSON in its metadata. If
the file cannot be read it prints why and ends with `REFUSED`; the other side is `guarded_read`.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np

from .cards import WeightsError
from .read import read_arrays

REFUSED = 3


def main(source: str, target: str, memory: str, seconds: str) -> int:
    """Read a file and write its arrays; returns the exit code."""
    _bound(resource.RLIMIT_DATA, int(memory))
    _bound(resource.RLIMIT_CPU, int(seconds))
    _bound(resource.RLIMIT_CORE, 0)
    try:
        arrays = read_arrays(Path(source))
        kept = {name: values for name, values in arrays.items() if values.dtype.kind in "biuf"}
        names = json.dumps(list(kept))
        numbered = {str(i): np.ascontiguousarray(v) for i, v in enumerate(kept.values())}
        shapes = {str(i): v.shape for i, v in enumerate(kept.values())}  # () would become (1,)

        from safetensors.numpy import save_file

        save_file({i: v.reshape(shapes[i]) for i, v in numbered.items()}, target, {"names": names})
    except WeightsError as error:
        print_text(str(error))
        return REFUSED
    except (MemoryError, OSError) as error:
        print_text(f"cannot read weights from {source}: {error or 'memory ran out'}")
        return REFUSED
    return 0


def print_text(text: str) -> None:
    """Write to standard output, whatever characters there are."""
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))


def _bound(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (soft, hard))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
