"""`vadpipe review`: options, and weights that are asked for before they are downloaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vadpipe.extractors.weights import fetch as fetch_module
from vadpipe.extractors.weights.cards import WeightsError
from vadpipe.pipeline.cli import review as review_cli
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.run import review as review_module
from vadpipe.pipeline.run.review import ReviewAsked
from vadpipe.pipeline.run.review_features import weights_of


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[ReviewAsked]:
    """What a review is asked for; nothing is done."""
    found: list[ReviewAsked] = []

    def review_footage(what: ReviewAsked, **_: Any) -> Any:
        found.append(what)
        folder = SimpleNamespace(failures_file=what.out / "failed.parquet")
        return SimpleNamespace(run=SimpleNamespace(errors=[], failures=[], folder=folder))

    monkeypatch.setattr(review_module, "review_footage", review_footage)
    return found


def call(tmp_path: Path, *words: str) -> Result:
    (tmp_path / "archive").mkdir(exist_ok=True)
    out = ["-o", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    return CliRunner().invoke(cli, ["review", str(tmp_path / "archive"), *out, *words])


def test_options_become_what_is_asked_for(tmp_path: Path, asked: list[ReviewAsked]) -> None:
    normal = str(tmp_path)
    words = ["--normal", normal, "--budget", "3", "--threads", "1", "--image-fps", "5", "--retrain"]
    done = call(tmp_path, *words, "--features", "motion", "--scene-from", "cam([0-9])")
    assert done.exit_code == 0, done.output
    (what,) = asked
    assert (what.normal, what.features, what.retrain) == (Path(normal), "motion", True)
    assert what.events.budget == 3.0 and what.engine.threads == 1
    assert what.probing.image_fps == 5.0 and what.scene_from == "cam([0-9])"


def test_a_model_that_is_given_needs_no_normal_footage(
    tmp_path: Path, asked: list[ReviewAsked]
) -> None:
    done = call(tmp_path, "--model", "knn", "--features", "motion")
    assert done.exit_code == 2 and "leave out --features" in done.output and not asked
    assert call(tmp_path, "--model", "knn").exit_code == 0 and asked[0].model == "knn"
    assert asked[0].scene_checks is None
    words = ["--model", "knn", "--normal", str(tmp_path), "--no-scene-checks"]
    assert call(tmp_path, *words).exit_code == 0
    assert asked[1].scene_checks is False and asked[1].normal == tmp_path


def test_what_was_learnt_needs_a_review_and_its_model(
    tmp_path: Path, asked: list[ReviewAsked]
) -> None:
    learnt = tmp_path / "learnt.parquet"
    learnt.touch()
    words = ["--learnt", str(learnt)]
    assert call(tmp_path, *words, "--model", "knn").exit_code == 2, "there is no review yet"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "review.json").write_text("{}")
    for more in ([], ["--model", "knn", "--retrain"]):
        done = call(tmp_path, *words, *more)
        assert done.exit_code == 2 and "--learnt is for the review" in done.output
    assert not asked
    assert call(tmp_path, *words, "--model", "knn").exit_code == 0
    assert (asked[0].learnt, asked[0].model) == (learnt, "knn")


def test_without_a_terminal_and_yes_nothing_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[str] = []
    monkeypatch.setattr(
        fetch_module, "fetch", lambda card, cache: got.append(card.name) or tmp_path / card.name
    )
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    cards = weights_of("objects")
    with pytest.raises(WeightsError, match=r"add --yes, fetch them with .*--features motion"):
        review_cli._fetch(cards, tmp_path / "cache", yes=False, say=print)
    assert not got
    review_cli._fetch(cards, tmp_path / "cache", yes=True, say=print)
    assert got == ["yolov3_tiny.coco"]
    review_cli._fetch([], tmp_path / "cache", yes=False, say=print)


@pytest.mark.parametrize("agreed", [True, False])
def test_at_a_terminal_it_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agreed: bool
) -> None:
    got: list[str] = []
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        fetch_module, "fetch", lambda card, cache: got.append(card.name) or tmp_path / card.name
    )
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(review_cli, "sys", SimpleNamespace(stdin=terminal, stderr=terminal))
    questions: list[str] = []
    monkeypatch.setattr(
        review_cli.click, "confirm", lambda text, **_: questions.append(text) or agreed
    )
    if agreed:
        review_cli._fetch(weights_of("objects"), tmp_path / "cache", yes=False, say=print)
    else:
        with pytest.raises(WeightsError):
            review_cli._fetch(weights_of("objects"), tmp_path / "cache", yes=False, say=print)
    assert questions == ["Download yolov3_tiny.coco?"] and len(got) == agreed
