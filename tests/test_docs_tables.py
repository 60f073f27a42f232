"""Tables of the documents render as tables: each row stands below a heading of as many cells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
NAMES = [page.relative_to(REPOSITORY).as_posix() for page in PAGES]
RULE = re.compile(r"\|?( *:?-+:? *\|)+( *:?-+:? *)?$")  # the line below a heading


def text_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of the lines outside of code blocks; an empty line for those inside."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        yield number, "" if fence or fenced or line.startswith("    ") else line.strip()


def cells(row: str) -> int:
    """Number of cells of a row; `|` in code or after a backslash separates nothing."""
    bare = re.sub(r"`[^`]*`|\\\|", "", row)
    return bare.strip().strip("|").count("|") + 1


def blocks(text: str) -> Iterator[list[tuple[int, str]]]:
    """Rows that follow each other without a line between them."""
    for is_row, lines in groupby(text_lines(text), lambda line: line[1].startswith("|")):
        if is_row:
            yield list(lines)


def broken_rows(text: str) -> list[str]:
    """What is wrong with the tables of a page, one sentence for each place."""
    found = []
    for (first, heading), *rest in blocks(text):
        if not rest or not RULE.match(rest[0][1]):
            found.append(f"line {first}: a row without a table above it")
            continue
        wanted = cells(heading)
        wrong = [(number, cells(row)) for number, row in rest if cells(row) != wanted]
        found += [f"line {number} has {has} cells, its heading {wanted}" for number, has in wrong]
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_row_is_part_of_a_table(page: Path) -> None:
    assert not broken_rows(page.read_text(encoding="utf-8"))


TABLE = "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        f"words\n\n{TABLE}\nwords\n\n{TABLE}",
        "| a | b |\n| --- | --- |\n| `x|y` | 2\\|3 |\n",
        "```\n| no table |\n```\n",
        "    | no table |\n",
    ],
)
def test_whole_tables_pass(text: str) -> None:
    assert not broken_rows(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{TABLE}\n| 3 | 4 |\n", "line 5: a row without a table above it"),
        (f"{TABLE}\n| 3 | 4 |\n| 5 | 6 |\n", "line 5: a row without a table above it"),
        ("| a | b |\n", "line 1: a row without a table above it"),
        (f"{TABLE}| 3 |\n", "line 4 has 1 cells, its heading 2"),
        ("| a | b |\n| --- |\n", "line 2 has 1 cells, its heading 2"),
    ],
)
def test_rows_outside_of_tables_are_found(text: str, said: str) -> None:
    assert said in broken_rows(text)
