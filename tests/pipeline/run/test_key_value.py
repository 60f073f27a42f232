from __future__ import annotations

import pytest

from vadpipe.pipeline.run.key_value import ConfigError, parse_settings


def test_settings_are_toml_or_words() -> None:
    parsed = parse_settings(["a=3", "b=true", "c=[1, 2]", "d=word", "e=none", "f='3'"])
    assert parsed == {"a": 3, "b": True, "c": [1, 2], "d": "word", "e": None, "f": "3"}
    with pytest.raises(ConfigError, match="key=value"):
        parse_settings(["novalue"])
