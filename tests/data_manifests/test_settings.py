from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError, model_validator

from vadpipe.data_manifests.settings import Settings, in_words, names_of
from vadpipe.detectors.ssrl import SSRLConfig
from vadpipe.extractors.footage.limits import DecodeLimits
from vadpipe.extractors.null import NullConfig
from vadpipe.pipeline.engine.settings import Engine, ProbeOptions
from vadpipe.pipeline.report.heatmaps import HeatmapStyle
from vadpipe.pipeline.run.config import load_run
from vadpipe.pipeline.scores.events import EventConfig


class Inner(Settings):
    stride: int = Field(default=1, ge=1)


class Outer(Settings):
    name: str
    from_: str | None = Field(default=None, alias="from")
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()

    @model_validator(mode="after")
    def _not_both(self) -> Outer:
        if self.from_ and self.many:
            raise ValueError("give from or many")
        return self


def wrong(**values: Any) -> str:
    with pytest.raises(ValidationError) as raised:
        Outer.model_validate(values)
    return in_words(raised.value)


def test_an_unknown_name_is_answered_with_the_valid_ones() -> None:
    there = "there are: name, from, inner, many"
    assert wrong(name="a", mny=1) == f"Outer: no setting 'mny'; {there}; did you mean 'many'?"
    assert wrong(name="a", x=1) == f"Outer: no setting 'x'; {there}"
    assert wrong(name="a", fro=1, inne=2) == (
        f"Outer: no setting 'fro', 'inne'; {there}; did you mean 'from' or 'inner'?"
    )


def test_the_place_of_a_nested_name_is_said() -> None:
    end = "no setting 'strid'; there are: stride; did you mean 'stride'?"
    assert wrong(name="a", inner={"strid": 1}) == f"Outer: inner: {end}"
    assert wrong(name="a", many=[{}, {"strid": 1}]) == f"Outer: many.1: {end}"


def test_other_errors_are_one_line_each() -> None:
    lines = wrong(inner={"stride": 0}, many="x" * 200).splitlines()
    assert lines[0] == "Outer: name: Field required"
    assert lines[1] == ("Outer: inner.stride: Input should be greater than or equal to 1, not 0")
    assert lines[2].startswith("Outer: many: Input should be a valid tuple, not 'xxx")
    assert len(lines) == 3 and lines[2].endswith("...")
    both = {"name": "a", "from": "b", "many": [{}]}
    assert wrong(**both) == "Outer: give from or many"


def test_valid_settings_pass_and_are_frozen() -> None:
    made = Outer.model_validate({"name": "a", "from": "b", "inner": Inner(stride=2)})
    assert (made.from_, made.inner.stride) == ("b", 2)
    assert names_of(Outer) == ["name", "from", "inner", "many"]
    with pytest.raises(ValidationError, match="frozen"):
        made.name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "typo", "meant"),
    [
        (NullConfig, "strid", "stride"),
        (SSRLConfig, "top-k", "top_k"),
        (DecodeLimits, "hour", "hours"),
        (Engine, "worker", "workers"),
        (ProbeOptions, "hashmode", "hash_mode"),
        (HeatmapStyle, "colors", "colours"),
        (EventConfig, "quantil", "quantile"),
    ],
)
def test_every_kind_of_settings_answers_a_typo(kind: type[Settings], typo: str, meant: str) -> None:
    with pytest.raises(ValidationError, match=f"did you mean '{meant}'"):
        kind.model_validate({typo: 1})
    with pytest.raises(ValidationError, match=f"did you mean '{meant}'"):
        kind(**{typo: 1})


def test_a_typo_in_a_run_file_names_its_section(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        'out = "o"\nmanifest = { file = "m.csv" }\ntrain = { detector = "knn" }\n'
        '[[extract]]\nextractr = "null"\n'
    )
    with pytest.raises(ValidationError) as raised:
        load_run(path)
    assert in_words(raised.value).startswith("RunConfig: extract.0: no setting 'extractr'; ")
    assert "did you mean 'extractor'?" in in_words(raised.value)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_numbers_are_finite_in_every_kind_of_settings(value: float) -> None:
    for kind, name in ((DecodeLimits, "hours"), (ProbeOptions, "image_fps")):
        with pytest.raises(ValidationError) as raised:
            kind.model_validate({name: value})
        assert "finite number" in in_words(raised.value)


def test_text_without_nul() -> None:
    assert "name has a NUL character" in wrong(name="a\0b")
