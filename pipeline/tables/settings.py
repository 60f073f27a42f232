"""Settings as rows: name, type, default, description and source in the paper.

They are read off the code: fields of a config, or arguments of a function. What a setting means is
its pydantic description, or its entry in the docstring (`Attributes` of a class, `Args` of a
function).
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

# Where a default comes from: "SSRL Sect. 4.2", "eq. 8", "Table 3", "reference code".
_SOURCE = re.compile(
    r"(?:[A-Z]\w+,? )?(?:Sect|Table|[Ee]q|Fig|Alg)s?\.? ?\d+(?:\.\d+)*"
    r"|(?:reference|authors'|LNTRA's) code"
)
_NAMES = {bool: "true | false", type(None): "none", Path: "path", str: "text"}
_SIGNS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))


@dataclass(frozen=True)
class Setting:
    """One setting as a user sees it.

    Attributes:
        name: what stands before the `=` of `--set`.
        type: what may stand after it; arrays are in brackets, as in TOML.
        required: whether it has no default.
        default: as a JSON value; None is TOML's word `none` here.
        description: what it means; "" where the code does not say.
        source: places in papers or other code that the description names, in its order.
    """

    name: str
    type: str
    required: bool
    default: Any
    description: str
    source: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def settings_of(kind: type[BaseModel]) -> list[Setting]:
    """The fields of a config, in order."""
    documented: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        documented |= section(base.__doc__, "Attributes")
    return [
        _setting(
            info.alias or name,
            _with_bounds(type_text(info.annotation), info.metadata),
            info.is_required(),
            None if info.is_required() else info.get_default(call_default_factory=True),
            info.description or documented.get(name, ""),
        )
        for name, info in kind.model_fields.items()
    ]


def options_of(function: Callable[..., Any]) -> list[Setting]:
    """The arguments of a function, without the first one."""
    documented = section(function.__doc__, "Args")
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # a type that is imported for type checkers only
        hints = {}
    options = []
    for name, parameter in list(inspect.signature(function).parameters.items())[1:]:
        hint = hints.get(name, parameter.annotation)
        text = hint if isinstance(hint, str) else type_text(hint)
        required = parameter.default is parameter.empty
        default = None if required else parameter.default
        options.append(_setting(name, text, required, default, documented.get(name, "")))
    return options


def _setting(name: str, kind: str, required: bool, default: Any, description: str) -> Setting:
    source = "; ".join(dict.fromkeys(_SOURCE.findall(description)))
    plain = to_jsonable_python(default, fallback=str)
    return Setting(name, kind, required, plain, description, source)


def toml(value: Any) -> str:
    """A JSON value as it stands in `--set KEY=VALUE`."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return f"{{{', '.join(f'{key} = {toml(each)}' for key, each in value.items())}}}"
        case _:
            return str(value)


def type_text(kind: Any) -> str:
    """A type annotation in words that a user of TOML knows: `int`, `[int, int]`, `raw | l2`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _with_bounds(type_text(inner[0]), inner[1:])
    if origin is Literal:
        return " | ".join(toml(each) for each in inner)
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(type_text(each) for each in inner))
    if origin in (tuple, list, set, frozenset):
        return f"[{', '.join('...' if each is ... else type_text(each) for each in inner)}]"
    if origin is not None and len(inner) == 2:
        return f"{{{type_text(inner[0])} = {type_text(inner[1])}}}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " | ".join(str(each.value) for each in kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"{{{', '.join(setting.name for setting in settings_of(kind))}}}"
    return str(_NAMES.get(kind) or getattr(kind, "__name__", kind))


def _with_bounds(text: str, metadata: Iterable[Any]) -> str:
    """A type with the bounds of its values: `int >= 1`."""
    bounds = [
        f"{sign} {toml(getattr(each, name))}"
        for each in metadata
        for name, sign in _SIGNS
        if getattr(each, name, None) is not None
    ]
    plain, none, _ = text.partition(" | none")  # a bound is one of the numbers
    return " ".join([plain, ", ".join(bounds)]).rstrip() + none


def section(docstring: str | None, title: str) -> dict[str, str]:
    """The entries of a section of a docstring in Google's style: name -> text in one line.

    Args:
        docstring:
            Of a class or a function.
        title:
            Of the section, `Attributes` or `Args`.
    """
    lines = inspect.cleandoc(docstring or "").splitlines()
    if f"{title}:" not in lines:
        return {}
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines[lines.index(f"{title}:") + 1 :]:
        if line and not line.startswith(" "):
            break  # the next section
        entry = re.fullmatch(r" {4}(\w+)(?: \([^)]*\))?:(.*)", line)
        if entry:
            name = entry[1]
            found[name] = [entry[2].strip()]
        elif name:
            found[name].append(line.strip())
    return {name: " ".join(filter(None, parts)) for name, parts in found.items()}
