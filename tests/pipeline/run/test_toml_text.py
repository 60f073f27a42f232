"""Values as TOML: whatever is written is read again."""

from __future__ import annotations

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from vadpipe.pipeline.run.toml_text import toml_text

NAMES = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FLAT = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    FLAT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
TABLES = st.dictionaries(NAMES, VALUES, max_size=4)


@settings(max_examples=200, deadline=None)
@given(TABLES, st.lists(TABLES, min_size=1, max_size=3), st.lists(TEXT, max_size=3))
def test_what_is_written_is_read(table, tables, notes):
    values = {**table, "section": table, "many": tables}
    assert tomllib.loads(toml_text(values, notes)) == values


def test_sections_stand_below_what_has_none():
    text = toml_text(
        {"out": ".", "manifest": {"file": "a"}, "train": [{"name": "x"}]}, ["one\ntwo"]
    )
    assert text.splitlines() == [
        *("# one?two", 'out = "."', "", "[manifest]", 'file = "a"', "", "[[train]]", 'name = "x"')
    ]
