"""What a terminal would obey is written out."""

from __future__ import annotations

import copy

import pytest

from vadpipe.data_manifests.errors import VadpipeError
from vadpipe.data_manifests.plain_text import LONGEST, one_line, plain, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\rb\x00\x9b", "a\\rb\\x00\\x9b"),
        ("gnp.\u202emp4", "gnp.\\u202emp4"),
        ("a\u061cb", "a\\u061cb"),
        ("\udcff", "\\udcff"),
        ("Hof 3/ä[/red]\n\tx", "Hof 3/ä[/red]\n\tx"),
    ],
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_long_values_in_messages_are_cut() -> None:
    value = "[" * 100_000
    assert shortened(f"/a/b.csv, row 1: {value!r} is no number") == (
        "/a/b.csv, row 1: '" + "[" * 199 + "... (100,002 characters) is no number"
    )
    path = "/" + "/".join(["folder" * 8] * 9)
    assert shortened(path) == path, "paths are never cut"
    assert len(shortened("many words " * 10_000)) < LONGEST + 10


def test_every_error_cuts_them() -> None:
    class Own(VadpipeError, ValueError):
        pass

    class OfTheSystem(VadpipeError, OSError):
        pass

    assert len(str(Own("x" * 5000))) < 300
    assert OfTheSystem(28, "full").errno == 28 and str(Own("short")) == "short"


def test_names_in_errors_end_no_line() -> None:
    error = VadpipeError("/a/b\n\tError: all is well\x1b[2K\r.mp4: is empty")
    assert str(error) == "/a/b\\n\\tError: all is well\\x1b[2K\\r.mp4: is empty"
    assert str(VadpipeError(str(error))) == str(error), "an error that quotes one escapes nothing"
    assert one_line("[/red]\n") == "[/red]\\n"


def test_a_message_of_several_lines_is_given_line_by_line() -> None:
    error = VadpipeError("two sets:", "  a\nb", "  c")
    assert str(error) == "two sets:\n  a\\nb\n  c"
    assert str(copy.copy(error)) == str(error), "as it is sent from a worker"
    assert str(VadpipeError()) == "" and str(VadpipeError(3, "x")) == "(3, 'x')"
