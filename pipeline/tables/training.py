"""What a training came to, in a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST = 8  # facts in a line; limits of each attribute of each camera would fill a page


def training_line(summary: Mapping[str, Any], name: str) -> str:
    """The first facts of a training, rounded, and where the others stand.

    Args:
        summary:
            Fact -> value, as a detector returns it.
        name:
            Of the model.
    """
    facts = [f"{fact} {_short(value)}" for fact, value in list(summary.items())[:MOST]]
    rest = len(summary) - MOST
    if rest > 0:
        facts.append(f"and {rest} more (vadpipe list models {name})")
    return ", ".join(facts)


def _short(value: Any) -> str:
    """A number with four digits, if it has a fraction; everything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) and not value.is_integer() else f"{value}"
