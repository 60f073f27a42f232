"""Settings as rows: what is read off configs, functions and docstrings."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import Field, PositiveInt

from vadpipe.data_manifests.settings import Settings
from vadpipe.pipeline.tables.settings import options_of, section, settings_of, toml, type_text

if TYPE_CHECKING:
    from somewhere import Unknown


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(Settings):
    """Attributes:
    a: first.
    """

    a: int
    b: float = 0.5


class Base(Settings):
    """Settings of a base.

    Attributes:
        size: (height, width) of frames,
            see Paper, Sect. 4.2.
        kept: from the base.
        overridden: from the base.

    Raises:
        ValueError: this is no setting.
    """

    size: tuple[PositiveInt, PositiveInt] = (2, 3)
    kept: bool = True
    overridden: str | None = None


class Derived(Base):
    """Settings of a class.

    Attributes:
        overridden: from the class.
        rate: said twice.
    """

    rate: Annotated[float | None, "marker"] = Field(
        default=None, gt=0, le=1, description="a rate: SSRL Sect. 4.2 and eq. 8 (reference code)"
    )
    from_: Literal["x", 1] = Field(alias="from")
    many: tuple[Inner, ...] = Field(default_factory=tuple)


def test_fields_of_a_config() -> None:
    rows = {row.name: row for row in settings_of(Derived)}
    assert list(rows) == ["size", "kept", "overridden", "rate", "from", "many"]
    size = rows["size"]
    assert (size.type, size.default, size.required) == ("[int > 0, int > 0]", [2, 3], False)
    assert size.description == "(height, width) of frames, see Paper, Sect. 4.2."
    assert size.source == "Paper, Sect. 4.2"
    assert rows["kept"].description == "from the base."
    assert rows["overridden"].description == "from the class."
    rate = rows["rate"]
    assert (rate.type, rate.default) == ("float > 0, <= 1 | none", None)
    assert rate.description.startswith("a rate"), "the field's own description is nearer"
    assert rate.source == "SSRL Sect. 4.2; eq. 8; reference code"
    assert (rows["from"].type, rows["from"].required) == ("x | 1", True)
    assert (rows["many"].type, rows["many"].default) == ("[{a, b}, ...]", [])
    assert rows["kept"].to_json()["type"] == "true | false"


def build(
    root: Path, *, footage: str | Path | None = None, subset: bool = False, n: int
) -> Unknown:
    """Make it.

    Args:
        root:
            The folder.
        footage (path):
            Where it is:

            one line more.
        subset: All on one line.
        n: A number.
    """
    raise NotImplementedError(root, footage, subset, n)


def typed(root: Path, footage: str | Path | None = None) -> None:
    """No documentation."""


def test_arguments_of_a_function() -> None:
    footage, subset, n = options_of(build)
    assert footage.type == "str | Path | None", "as it is written: a type cannot be resolved"
    assert footage.description == "Where it is: one line more."
    assert (subset.default, subset.description) == (False, "All on one line.")
    assert n.required and n.description == "A number."
    (footage,) = options_of(typed)
    assert footage.description == ""
    assert (footage.type, footage.default) == ("text | path | none", None)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "int"),
        (Colour, "red | blue"),
        (dict[str, int], "{text = int}"),
        (list[float], "[float]"),
        (int | tuple[int, int] | None, "int | [int, int] | none"),
        (Inner, "{a, b}"),
        (Any, "Any"),
    ],
)
def test_types_in_words(kind: Any, text: str) -> None:
    assert type_text(kind) == text


def test_values_stand_as_they_are_typed() -> None:
    values = [None, True, 3, 0.5, "word", [1, [2, 3]], {"a": None, "b": [False]}]
    assert [toml(value) for value in values] == [
        *("none", "true", "3", "0.5", "word", "[1, [2, 3]]", "{a = none, b = [false]}")
    ]


def test_a_section_ends_where_the_next_begins() -> None:
    assert section(Base.__doc__, "Attributes").keys() == {"size", "kept", "overridden"}
    assert section(Base.__doc__, "Raises") == {"ValueError": "this is no setting."}
    assert section(Base.__doc__, "Args") == section(None, "Args") == {}
