"""What a terminal would obey is written out."""

from __future__ import annotations

import pytest

from vadpipe.data_manifests.plain_text import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\rb\x00\x9b", "a\\rb\\x00\\x9b"),
        ("gnp.\u202emp4", "gnp.\\u202emp4"),
        ("\udcff", "\\udcff"),
        ("Hof 3/ä[/red]\n\tx", "Hof 3/ä[/red]\n\tx"),
    ],
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    assert plain(text) == shown
