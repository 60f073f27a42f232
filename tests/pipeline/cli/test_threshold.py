"""`vadpipe threshold`, and the options of a rule that `score` and `fuse` share with it."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.pipeline.test_threshold import model_of
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.cli.threshold import rule_options
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.scores.events import EventConfig


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of(tmp_path_factory.mktemp("models") / "knn-1")


def call(model: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["threshold", str(model), *words], catch_exceptions=False)


def test_a_rule_is_kept_and_said(model: Path) -> None:
    done = call(model, "--budget", "30")
    kept = ModelFolder(model).threshold()
    assert done.exit_code == 0 and kept is not None and kept.rule.budget == 30.0
    assert f"threshold {kept.high:.6g} (budget 30 events per camera and day)" in done.stdout
    assert all(line in done.stdout for line in kept.lines)
    assert "nothing was changed" not in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "-1"), "--budget: input should be greater than 0, not -1.0"),
        (("--quantile", "1"), "--quantile: input should be less than 1, not 1.0"),
        (("--release-quantile", "2"), "--release-quantile: input should be less than 1, not 2.0"),
        (("--quantile", "0.5", "--release-quantile", "0.9"), "release_quantile 0.9 is above"),
    ],
)
def test_a_wrong_number_is_answered_by_its_option(
    model: Path, words: tuple[str, ...], said: str
) -> None:
    done = call(model, *words)
    assert done.exit_code == 2 and said in " ".join(done.output.split())
    assert "EventConfig" not in done.output


def test_json_holds_the_same(model: Path) -> None:
    done = call(model, "--extreme", "1", "--json")
    values = json.loads(done.stdout)
    kept = ModelFolder(model).threshold()
    assert kept is not None and values["high"] == kept.high and values["kept"] is True
    shown = json.loads(call(model, "--budget", "30", "--json").stdout)
    assert shown["rule"] == "budget 30 events per camera and day"
    assert shown["value"] == shown["high"] and shown["settings"]["budget"] == 30.0
    assert not {"quantile", "value", "extreme"} & shown["settings"].keys()


def test_without_a_rule_nothing_is_kept(tmp_path: Path) -> None:
    model = model_of(tmp_path / "knn")
    done = call(model)
    assert "quantile 0.99" in done.stdout and "nothing was changed" in done.output
    assert ModelFolder(model).threshold() is None


def given(*words: str) -> EventConfig:
    """What a command with the options receives."""
    found: list[EventConfig] = []

    @click.command()
    @rule_options
    def command(events: EventConfig) -> None:
        found.append(events)

    done = CliRunner().invoke(command, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return found[0]


def test_options_name_one_rule_or_none(model: Path) -> None:
    assert given() == EventConfig() and not given().names_rule
    assert given("--quantile", "0.9").release_quantile == 0.9, "as low as the quantile"
    assert given("--quantile", "0.999").release_quantile == 0.95
    assert given("--value", "-3").value == -3.0 and given("--value", "-3").names_rule
    assert given("--budget", "2", "--release-quantile", "0.5").release_quantile == 0.5
    both = call(model, "--budget", "1", "--value", "2")
    assert both.exit_code == 2 and "--value and --budget: name one" in both.output
