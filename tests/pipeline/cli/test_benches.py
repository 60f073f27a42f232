"""benches: options reach the bench, and what is not asked for is its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vadpipe.pipeline.cli.benches import BENCHES, Asked

MODULES = {"index": "engine"}  # the others have the name of their bench


@pytest.mark.parametrize("what", BENCHES)
def test_options_reach_the_bench_they_are_for(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[Any]] = []

    def measure(*args: Any, **options: Any) -> tuple[dict[str, Any], list[str]]:
        calls.append([*args, *options.values()])
        return {"what": what}, []

    module = MODULES.get(what, what)
    monkeypatch.setattr(f"vadpipe.pipeline.bench.{module}.bench_{what}", measure)
    values, _ = BENCHES[what](Asked(31, 17, "cuda:9", Path("a.mp4")))
    assert values == {"what": what}
    assert BENCHES[what](Asked(None, None, "cpu", None)) == (values, [])
    asked, left = map(repr, calls)
    options = {option: option in asked for option in ("31", "17", "cuda:9", "a.mp4")}
    assert options == {
        "31": what not in ("engine", "index"),
        "17": what not in ("decode", "network", "extract", "objects", "startup"),
        "cuda:9": what not in ("decode", "engine", "index", "shards", "nearest", "startup", "page"),
        "a.mp4": what in ("decode", "extract", "objects"),
    }
    assert not any(option in left for option in options)


def test_defaults_are_those_of_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(**options: Any) -> tuple[dict[str, Any], list[str]]:
        return options, []

    monkeypatch.setattr("vadpipe.pipeline.bench.shards.bench_shards", measure)
    values, _ = BENCHES["shards"](Asked(None, None, "cpu", None))
    assert values == {"count": 100, "repeats": 10}
