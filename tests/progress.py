"""A progress bar that notes what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType

import pytest


@dataclass
class Noted:
    """What the bars of a module were told.

    Attributes:
        steps: in their order.
        totals: of the bars that have ended.
    """

    steps: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)


def note_progress(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> Noted:
    """Replace the progress bar of a module by one that notes."""
    noted = Noted()

    @contextmanager
    def bar(title: str, total: float) -> Iterator[object]:
        yield noted.steps.append
        noted.totals.append(total)

    monkeypatch.setattr(module, "progress_bar", bar)
    return noted
