"""The end of a run, told to its own tasks only: a notebook or a service may have several at once.

Tasks of a run look here between two frames. A task in another process is ended with its process.
"""

from __future__ import annotations

import uuid

_ENDED: set[str] = set()  # runs that have ended, but may have threads


def new_run() -> str:
    """Make a name for a run."""
    return uuid.uuid4().hex


def end_run(run: str) -> None:
    """Tell the tasks of a run in this process that it has ended."""
    _ENDED.add(run)


def has_ended(run: str) -> bool:
    """Whether the run has ended."""
    return run in _ENDED


def forget_run(run: str) -> None:
    """Forget a run that has no task left."""
    _ENDED.discard(run)
