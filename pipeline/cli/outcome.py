"""What a command that writes or deletes something prints with --json: one shape for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from .options import put

if TYPE_CHECKING:
    from ..store.failures import Failure

Said = Callable[[str], None]


def outcome(
    made: Iterable[str | PathLike[str]],
    counts: Mapping[str, int],
    *,
    failures: Iterable[Failure] = (),
    warnings: Iterable[str] = (),
    **facts: Any,
) -> dict[str, Any]:
    """The JSON values of a command.

    Args:
        made:
            Files and folders that hold the result, made by this command or there already.
        counts:
            Of what was done.
        failures:
            What failed, one for each video and stage.
        warnings:
            Texts that people should read.
        facts:
            What only this command says.
    """
    return {
        "made": [str(path) for path in made],
        "counts": dict(counts),
        "warnings": list(warnings),
        "failures": [dict(vars(failure)) for failure in failures],
        **facts,
    }


def voice(as_json: bool) -> Said:
    """Where a command says a line while it is at work: stdout, or stderr with --json."""
    from ..engine.progress import tell

    return tell if as_json else put
