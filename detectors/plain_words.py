"""Why an object is odd, in the words of a guard: no numbers, no terms of the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

USUAL = "the picture differs from what this camera shows normally"
MUCH = 2.0  # times the limit of normal objects
MOST = 3  # clauses of a sentence
_PAIRS = ("skis", "scissors")  # classes whose name is a plural
# (up to MUCH, and above), of each attribute but the class.
_CLAUSES = {
    "direction": ("in an unusual direction",) * 2,
    "speed": ("faster than usual", "much faster than usual"),
    "place": ("is at an unusual place", "is far from any usual place"),
    "size": ("has an unusual size for this place", "has a very unusual size for this place"),
    "stay": ("stays longer than usual", "stays much longer than usual"),
    "deep": ("looks unusual",) * 2,
    "reid": ("looks unlike anyone seen here",) * 2,
    "pose": ("has an unusual posture",) * 2,
}
_MOVES = ("direction", "speed")  # one clause of both, in this order


@dataclass(frozen=True)
class Reason:
    """One attribute of an object that is beyond its limit.

    Attributes:
        attribute: its name, see `attribute_models.Name`.
        times: the value as a multiple of the limit; None where a ratio means nothing.
        kind: the class that normal footage lacks, of the attribute "class"; "" of others.
    """

    attribute: str
    times: float | None = None
    kind: str = ""


def named(label: str | None) -> str:
    """An object with its article, as `a person`; `something` where its class is not known."""
    if not label:
        return "something"
    if label in _PAIRS:
        return f"a pair of {label}"
    return f"{'an' if label[0].lower() in 'aeiou' else 'a'} {label}"


def sentence(label: str | None, reasons: Sequence[Reason]) -> str | None:
    """Say why an object is odd, as `a person moves in an unusual direction`.

    Args:
        label:
            Its class; None where it is not known.
        reasons:
            Most evidence first; the first `MOST` clauses are said.

    Returns:
        None without a reason.
    """
    kinds = [reason.kind for reason in reasons if reason.kind]
    subject = named(kinds[0] if kinds else label)
    clauses: list[str] = []
    moves = {r.attribute: _clause(r) for r in reasons if r.attribute in _MOVES}
    moving = ", ".join(moves[name] for name in _MOVES if name in moves)
    for reason in reasons:
        if reason.attribute in _MOVES:
            clause = f"moves {moving}"
        elif reason.kind:
            continue
        else:
            clause = _clause(reason)
        if clause not in clauses:
            clauses.append(clause)
    if not clauses:
        return f"{subject} is here, which is unusual" if kinds else None
    subject = f"{subject}, unusual here," if kinds else subject
    *first, last = clauses[:MOST]
    if not first:
        return f"{subject} {last}"
    comma = "," if "," in first[-1] else ""
    return f"{subject} {', '.join(first)}{comma} and {last}"


def _clause(reason: Reason) -> str:
    some, much = _CLAUSES[reason.attribute]
    return much if reason.times is not None and reason.times >= MUCH else some
