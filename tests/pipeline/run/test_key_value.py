from __future__ import annotations

import pytest

from vadpipe.pipeline.run.key_value import ConfigError, parse_settings


def test_settings_are_toml_or_words() -> None:
    parsed = parse_settings(["a=3", "b=true", "c=[1, 2]", "d=word", "e=none", "f='3'"])
    assert parsed == {"a": 3, "b": True, "c": [1, 2], "d": "word", "e": None, "f": "3"}
    with pytest.raises(ConfigError, match="key=value"):
        parse_settings(["novalue"])


def test_a_shell_may_take_the_quotes_of_a_list_away() -> None:
    parsed = parse_settings(
        ["a=[speed,class]", "b=[ 2x3, 4 ]", "c=[one]", "d=[un'even]", "e=[a,[b]]"]
    )
    assert (
        parsed["a"] == ["speed", "class"] and parsed["b"] == ["2x3", 4] and parsed["c"] == ["one"]
    )
    assert parsed["d"] == "[un'even]" and parsed["e"] == "[a,[b]]"
