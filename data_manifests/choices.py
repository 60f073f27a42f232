"""What a user may choose from, said after a name that does not exist."""

from __future__ import annotations

from collections.abc import Collection, Iterable


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
    lower: dict[str, str] = {}
    for name in known:
        lower.setdefault(name.lower(), name)
    found = dict.fromkeys(repr(lower[near]) for name in given if (near := _nearest(name, lower)))
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _nearest(name: str, lower: Collection[str]) -> str | None:
    from difflib import get_close_matches  # only errors need it

    name = name.lower()
    begins = [other for other in lower if len(name) > 1 and other.startswith(name)]
    return next(iter(get_close_matches(name, lower, n=1) or begins), None)
