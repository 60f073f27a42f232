"""Text of unknown origin as a terminal may show it."""

from __future__ import annotations

import re

# Control characters (escape sequences begin with one), what turns the direction of writing around,
# and bytes of file names that are not UTF-8 (Python shows them as surrogates).
_NOT_SHOWN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: str) -> str:
    """The text with all that a terminal would obey written out (`\\x1b`); lines and tabs stay."""
    return _NOT_SHOWN.sub(lambda found: ascii(found[0])[1:-1], text)
