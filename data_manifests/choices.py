"""What a user may choose from, said after a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable


def choices(known: Iterable[str], *given: str) -> str:
    """List the valid names, with the likely ones for names that were mistyped.

    Args:
        known:
            The valid names.
        given:
            The names that are none of them.

    Returns:
        `a, b, c; did you mean 'b'?`, or `none` where there is no valid name.
    """
    names = list(known)
    return (", ".join(names) or "none") + likely(names, *given)


def likely(known: Iterable[str], *given: str) -> str:
    """`; did you mean 'b'?` for names that were mistyped, the end of a message; may be empty."""
    from difflib import get_close_matches  # only errors need it

    lower: dict[str, str] = {}
    for name in known:
        lower.setdefault(name.lower(), name)
    close = (get_close_matches(name.lower(), lower, n=1) for name in given)
    found = dict.fromkeys(repr(lower[match]) for matches in close for match in matches)
    return f"; did you mean {' or '.join(found)}?" if found else ""
