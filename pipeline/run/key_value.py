"""Settings that are given as `key=value`; without what a whole run needs, for a quick start."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from typing import Any

from ...data_manifests.errors import VadpipeError

_WORDS = re.compile(r"\[([^\[\]{}'\"]*[^\[\]{}'\",\s])\s*\]")  # a list without quotes


class ConfigError(VadpipeError, ValueError):
    """A setting that cannot be read."""


def parse_settings(pairs: Iterable[str], option: str = "--set") -> dict[str, Any]:
    """`key=value` strings to a dict: values are TOML (`3`, `true`, `[1, 2]`), else plain strings.

    A list may hold words without quotes, as a shell takes quotes away: `[speed,class]`.

    Args:
        pairs:
            As they were typed.
        option:
            What a message calls them.

    Raises:
        ConfigError: there is no "=".
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{option} {pair!r}: write key=value")
        value = _value(text.strip())
        settings[key.strip()] = None if value == "none" else value
    return settings


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        words = _WORDS.fullmatch(text)
        return text if words is None else [_value(word.strip()) for word in words[1].split(",")]
