"""Text of unknown origin as a terminal may show it, and counted nouns."""

from __future__ import annotations

import re

# Control characters (escape sequences begin with one), what turns the direction of writing around,
# and bytes of file names that are not UTF-8 (Python shows them as surrogates).
_NOT_SHOWN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


LONGEST_WORD = 500  # characters without a blank: paths are shorter
SHOWN = 200  # characters of a longer one
LONGEST = 10_000  # characters of a message
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


def shortened(text: str) -> str:
    """A message without the rest of long values that it quotes; a file may have any in it."""
    text = _LONG_WORD.sub(lambda f: f"{f[0][:SHOWN]}... ({len(f[0]):,} characters)", text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def plain(text: str) -> str:
    """The text with all that a terminal would obey written out (`\\x1b`); lines and tabs stay."""
    return _NOT_SHOWN.sub(lambda found: ascii(found[0])[1:-1], text)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 video`, `2 videos`, `1,000 videos`; `plural` is for nouns that take more than an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def one_line(text: str) -> str:
    """The same for a name, or a message that quotes some: lines and tabs are written out too."""
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")
