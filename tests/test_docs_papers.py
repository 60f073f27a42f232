"""Each paper's page says where its equations are, and what it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAPERS = sorted((REPOSITORY / "docs" / "papers").glob("*.md"))
# The numbered equations of each paper that a system is made of.
EQUATIONS = {
    "attribute_density": set(),
    "mil_ranking": {6, 7, 8},
    "msmg": set(range(1, 12)),
    "pseudo_anomaly": {1, 2, 3, 4},
    "ssmtl": set(range(1, 7)),
    "ssrl": set(range(1, 11)),
}


def table(page: str) -> list[tuple[str, str]]:
    """The rows of the table that says where each part is: what, and the code."""
    section = page.partition("## Where each part is\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    return [row for row in rows if not row[0].startswith(("paper", "supplement", "part", "---"))]


def numbers(text: str) -> set[int]:
    """The equations that a cell names: "eq. 1, 2: ..." and "eq. 4 to 6"."""
    found: set[int] = set()
    for first, rest in re.findall(r"eq\. (\d+)((?:(?:, | to )\d+)*)", text):
        found.add(int(first))
        last = int(first)
        for how, number in re.findall(r"(, | to )(\d+)", rest):
            found |= set(range(last, int(number) + 1)) if how == " to " else {int(number)}
            last = int(number)
    return found


def names(code: str) -> list[tuple[str, str]]:
    """The file and the name of each function, class and method in a cell."""
    found = []
    for path, listed in re.findall(r"`([\w/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)", code):
        found += [(path, name) for name in re.findall(r"`([\w.]+)`", listed)]
    return found


def has(path: str, name: str) -> bool:
    """Whether a file defines a function or class, or a class of it a method."""
    file = REPOSITORY / path
    if not file.is_file():
        return False
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for part in name.split("."):
        kinds = ast.ClassDef | ast.FunctionDef
        inside = [node for node in body if isinstance(node, kinds) and node.name == part]
        if not inside:
            return False
        body = inside[0].body
    return True


@pytest.mark.parametrize("page", PAPERS, ids=[page.stem for page in PAPERS])
def test_every_equation_has_a_place_that_exists(page: Path) -> None:
    rows = table(page.read_text(encoding="utf-8"))
    assert len(rows) >= 7
    said = set().union(*(numbers(what) for what, _ in rows if not what.startswith("supplement")))
    assert said == EQUATIONS[page.stem]
    for what, code in rows:
        found = names(code)
        assert len(found) == len(re.findall(r"`", code)) // 2 - len(re.findall(r"\.py`", code))
        assert found, what
        for path, name in found:
            assert has(path, name), f"{what}: {path}: {name}"


def test_what_is_not_there_is_found() -> None:
    assert numbers("eq. 1, 2: a; eq. 4 to 6: b") == {1, 2, 4, 5, 6}
    assert names("`a/b.py`: `c`, `D.e`; `f.py`: `g`") == [
        ("a/b.py", "c"),
        ("a/b.py", "D.e"),
        ("f.py", "g"),
    ]
    assert has("detectors/relation.py", "RelationNetwork.attention_columns")
    for path, name in (
        ("detectors/relation.py", "RelationNetwork.rows"),
        ("detectors/relation.py", "attention_columns"),
        ("detectors/relations.py", "NonLocal"),
    ):
        assert not has(path, name)
