"""Recipes of feature sets as files state them: checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...data_manifests.settings import in_words
from .errors import StoreError
from .keys import canonical_json
from .names import NAME_PATTERN

PERTURBS = "perturb"  # the extractor whose pixels are perturbed frames
RESIZES = "frames"  # the extractor whose pixels are resized frames; perturb resizes in the same way

_Count = Annotated[int, Field(ge=0, lt=1 << 40)]
_NUMBERS = r"^(bool|u?int(8|16|32|64)|float(16|32|64))$"


class _Stated(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class _Array(_Stated):
    name: str = Field(pattern=NAME_PATTERN)
    dtype: str = Field(pattern=_NUMBERS)
    dims: list[str] = Field(min_length=1)
    shape: list[_Count]
    role: str | None = None
    grid: Annotated[list[_Count], Field(min_length=2, max_length=2)] | None = None
    attrs: dict[str, Any] = {}
    ragged: bool = False


class _Recipe(_Stated):
    extractor: str = Field(pattern=NAME_PATTERN)
    arrays: list[_Array] = Field(min_length=1)
    config: dict[str, Any] = {}
    clips: dict[str, Any] | None = None
    weights: str | dict[str, Any] | None = None
    precision: str | None = None
    on_corrupt: str = "keep"
    perturb: dict[str, Any] | None = None
    source: _Recipe | None = None
    distribution: dict[str, str] | None = None


class _Card(_Stated):
    detector: str = Field(pattern=NAME_PATTERN)
    detector_version: int
    config: dict[str, Any]
    features: dict[str, _Recipe]
    twins: dict[str, _Recipe] = {}
    calibration: dict[str, Any]
    key: str = ""
    seed: int = 0
    contents: list[str] = []
    trained_on: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    supervision: str = ""
    distribution: dict[str, str] | None = None
    weights_sha256: str | None = None


def is_perturbed(recipe: Mapping[str, Any]) -> bool:
    """Whether features are of perturbed footage: their own clips, or those of a source of theirs.

    Args:
        recipe:
            Of a feature set.
    """
    if recipe.get("perturb") is not None or recipe["extractor"] == PERTURBS:
        return True
    source = recipe.get("source")
    return source is not None and is_perturbed(source)


def way_of(recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What happens to frames on the way to features, whether or not they are perturbed there.

    Frames that have a size already are not resized to it again. Features of footage and of its
    perturbed twin have the same way, or a network could tell them apart by the difference.

    Args:
        recipe:
            Of a feature set.
    """
    source, config = recipe.get("source"), recipe.get("config") or {}
    steps = [] if source is None else way_of(source)
    keeps = recipe["extractor"] in (PERTURBS, RESIZES)
    size = config.get("size" if keeps else "via")
    if size is not None and not (steps and steps[-1].get("size") == list(size)):
        how = config.get("interpolation", "bilinear")
        steps.append({"size": list(size), "interpolation": how})
    if not keeps:
        steps.append({k: recipe.get(k) for k in ("extractor", "config", "weights", "precision")})
    return steps


def checked_card(values: Any, where: object) -> dict[str, Any]:
    """The card of a model, as it stands in a file.

    Raises:
        StoreError: a value is missing or not what a card has.
    """
    return _checked(_Card, values, where)


def checked_recipe(values: Any, where: object) -> dict[str, Any]:
    """A recipe, as it stands in a file.

    Args:
        values:
            From JSON.
        where:
            The file, for the message.

    Raises:
        StoreError: a value is missing or not what a recipe has.
    """
    return _checked(_Recipe, values, where)


def _checked(kind: type[_Stated], values: Any, where: object) -> dict[str, Any]:
    try:
        kind.model_validate(values)
    except ValidationError as error:
        reason = in_words(error).splitlines()[0].removeprefix(f"{kind.__name__}: ")
        raise StoreError(f"{where} is damaged ({reason})") from error
    assert isinstance(values, Mapping)
    try:  # they become keys
        canonical_json(values["features"] if kind is _Card else values)
    except ValueError as error:
        raise StoreError(f"{where} is damaged (a number is not finite)") from error
    return dict(values)
