"""Settings: the base of all configs; an unknown key is answered with the valid ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from .choices import choices
from .plain_text import shortened

UNKNOWN = "unknown_setting"  # pydantic's type of the error
MOST_SHOWN = 80  # characters of a wrong value


class Settings(BaseModel):
    """Frozen settings by name; an unknown name is an error that lists the valid ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _names_exist(cls, values: Any) -> Any:
        """Refuse unknown names before pydantic does, whose error does not say what is valid."""
        if not isinstance(values, Mapping):
            return values
        accepted = {*cls.model_fields, *names_of(cls)}
        if unknown := [str(name) for name in values if name not in accepted]:
            named = ", ".join(repr(name) for name in unknown)
            text = f"no setting {named}; there are: {choices(names_of(cls), *unknown)}"
            raise PydanticCustomError(UNKNOWN, "{text}", {"text": text})
        for name, value in values.items():
            if isinstance(value, str | Path) and "\0" in str(value):
                raise ValueError(f"{name} has a NUL character: no file and no name can have one")
        return values


def names_of(kind: type[BaseModel]) -> list[str]:
    """The names of the settings as users write them."""
    return [info.alias or name for name, info in kind.model_fields.items()]


def in_words(error: ValidationError) -> str:
    """What pydantic found wrong, one line for each setting, without its internals."""
    lines = []
    for each in error.errors(include_url=False):
        place = ".".join(str(part) for part in each["loc"])
        given = repr(each["input"])
        given = given if len(given) <= MOST_SHOWN else f"{given[:MOST_SHOWN]}..."
        text = each["msg"].removeprefix("Value error, ")
        if each["type"] not in (UNKNOWN, "value_error", "missing"):
            text += f", not {given}"
        lines.append(": ".join(filter(None, (error.title, place, text))))
    return shortened("\n".join(lines))
