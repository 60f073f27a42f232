"""Data files of the review page: scripts that hand over one JSON text, which nothing can run.

A page that was opened from a disk may not read files, but it may load scripts. So each data file is
a script of one line that calls one function with a name and a string; the page parses the string as
JSON. Whatever stands in the data stays inside of that string.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data_manifests.atomic import write_text
from ..scores.checked import ScoreFolderError


def script_of(name: str, values: Any) -> str:
    """The text of a data file.

    Args:
        name:
            By which the page asks for it: letters, digits and "-".
        values:
            JSON values; numbers have to be finite.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)  # ASCII only
    return f"vadpipe.receive({_quoted(name)},{_quoted(text)});\n"


def write_chunk(folder: Path, name: str, values: Any) -> None:
    """Write `data/NAME.js` of a review page.

    Raises:
        ScoreFolderError: a number is not finite.
        CannotWrite: the disk is full or read-only.
    """
    try:
        text = script_of(name, values)
    except ValueError as error:
        raise ScoreFolderError(
            f"a number of {name} is not finite ({error}): run score and evaluate again"
        ) from error
    write_text(folder / "data" / f"{name}.js", text)


def packed(values: NDArray[Any], kind: str) -> str:
    """An array as base64, little endian.

    Args:
        values:
            (n,) numbers.
        kind:
            "u1", "u4", "f4" or "f8".
    """
    return base64.b64encode(np.ascontiguousarray(values, dtype=f"<{kind}").tobytes()).decode()


def packed_floats(values: NDArray[np.float64]) -> Mapping[str, str]:
    """Numbers in single precision where that loses nothing, else in double: `kind` and `data`."""
    with np.errstate(over="ignore"):
        exact = bool((values.astype(np.float32).astype(np.float64) == values).all())
    kind = "f4" if exact else "f8"
    return {"kind": kind, "data": packed(values, kind)}


def _quoted(text: str) -> str:
    """A string of JavaScript in ASCII; without "<" it ends no script, wherever it is put."""
    return json.dumps(text).replace("<", "\\u003c")
