"""The page on Python: its code runs, block after block, and its table names what is exported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from vadpipe import pipeline

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert len(blocks) == 7 and names["extracted"].written == 4
    assert not names["probed"].failures and not names["scored"].failures
    assert sorted(names["scored"].videos) == ["test_01", "test_02"]
    assert not names["done"].errors and len(names["done"].rows) == 1
    assert names["page"].read_text(encoding="utf-8").startswith("<!")


def test_the_table_names_what_is_exported() -> None:
    _, _, table = PAGE.partition("## Names\n")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE)
    assert [name for name, _ in rows] == sorted(pipeline.__all__)
    assert all(text.strip() for _, text in rows)
