"""Canonical JSON and the keys made of it: same settings, same key, on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SCHEMA_VERSION = 1
KEY_DIGITS = 12


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no blanks.

    Raises:
        TypeError: a value is not a plain JSON value.
        ValueError: a number is not finite.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def key_of(recipe: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of a recipe and the schema version, 64 hex digits."""
    text = canonical_json({"schema": SCHEMA_VERSION, **recipe})
    return hashlib.sha256(text.encode()).hexdigest()


def folder_name(name: str, recipe: Mapping[str, Any]) -> str:
    """`NAME-KEY12`, the folder of a feature set or a model."""
    return f"{name}-{key_of(recipe)[:KEY_DIGITS]}"


def differing_fields(ours: Any, theirs: Any, prefix: str = "") -> list[str]:
    """The fields in which two recipes differ, as `path: ours != theirs`."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return [
            line
            for name in sorted({*ours, *theirs})
            for line in differing_fields(ours.get(name), theirs.get(name), f"{prefix}{name}.")
        ]
    if ours == theirs:
        return []
    return [f"{prefix.rstrip('.')}: {ours!r} != {theirs!r}"]
