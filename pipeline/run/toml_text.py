"""Values as the text of a TOML file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def toml_text(values: Mapping[str, Any], notes: Sequence[str] = ()) -> str:
    """Write values as TOML: tables at the top become sections, lists of tables `[[NAME]]`.

    Args:
        values:
            Texts, numbers, truths, lists and tables of them.
        notes:
            Comments at the top.
    """
    lines = [f"# {line}" for note in notes for line in _one_line(note)]
    sections: list[str] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            sections += ["", f"[{name}]", *_pairs(value)]
        elif _is_tables(value):
            for each in value:
                sections += ["", f"[[{name}]]", *_pairs(each)]
        else:
            lines.append(f"{name} = {_value(value)}")
    return "\n".join([*lines, *sections, ""])


def _one_line(note: str) -> list[str]:
    """A comment ends with its line, and may not hold control characters."""
    return ["".join(c if c.isprintable() else "?" for c in note)]


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in values.items()]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # JSON escapes as TOML does, but for this one character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_value(v)}" for name, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)
