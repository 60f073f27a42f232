"""The threshold that scores are measured at, and the rule that it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """Raw score above which frames start an event.

    Attributes:
        value: of all videos.
        rule: where it comes from, in words; "" in results of earlier versions.
    """

    value: float
    rule: str = ""
