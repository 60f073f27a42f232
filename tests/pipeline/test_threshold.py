"""The threshold stage: the rule is kept with the model and used by later scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bags import weak_bags
from tests.held_out_rows import calibration_of, held_out_of
from vadpipe.detectors.base import DetectorError
from vadpipe.pipeline.models import ModelFolder, make_detector
from vadpipe.pipeline.scores.calibration_plot import PlotError
from vadpipe.pipeline.scores.events import EventConfig, EventError
from vadpipe.pipeline.scores.rules import thresholds_of
from vadpipe.pipeline.threshold import fit_threshold

RNG = np.random.default_rng(11)
VIDEOS = {f"v{i}": RNG.gumbel(size=3000) for i in range(6)}


def model_of(path: Path, held_out=None) -> Path:
    rows = held_out_of(VIDEOS) if held_out is None else held_out
    detector = make_detector("knn")
    detector.fit(weak_bags(4), device="cpu", seed=0)
    card = {"features": {}, "calibration": calibration_of(rows).to_json(), "summary": {}}
    ModelFolder(path).save(detector, card, held_out=rows)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of(tmp_path_factory.mktemp("models") / "knn-1")


@pytest.mark.parametrize(
    "rule", [{"quantile": 0.97}, {"value": 4.5}, {"budget": 30.0}, {"extreme": 1}]
)
def test_a_rule_is_kept_with_what_it_gives(model: Path, rule: dict[str, float]) -> None:
    before = {p.name: p.read_bytes() for p in model.iterdir() if p.name != "threshold.json"}
    done = fit_threshold(model, EventConfig(**rule), command="test")
    held_out = held_out_of(VIDEOS)
    levels = thresholds_of(EventConfig(**rule), calibration_of(held_out), held_out)
    kept = ModelFolder(model).threshold()
    assert done.kept and kept == done.chosen
    assert (kept.high, kept.low) == (levels.high.value, levels.low.value)
    assert kept.rule.rule == next(iter(rule)) and kept.command == "test"
    card = ModelFolder(model).card()
    assert kept.weights_sha256 == card["weights_sha256"]
    assert f"threshold {kept.high:.6g} ({levels.rule})" in done.lines()[0]
    after = {p.name: p.read_bytes() for p in model.iterdir() if p.name != "threshold.json"}
    assert after == before, "nothing else of the model changes"


def test_without_a_rule_the_present_one_is_shown_and_nothing_is_written(tmp_path: Path) -> None:
    model = model_of(tmp_path / "knn")
    shown = fit_threshold(model)
    assert not shown.kept and shown.chosen.rule.rule == "quantile"
    assert not (model / "threshold.json").exists()
    fit_threshold(model, EventConfig(budget=30.0))
    again = fit_threshold(model)
    assert again.chosen.rule.budget == 30.0 and not again.kept
    # settings without a rule take that of the model
    changed = fit_threshold(model, EventConfig(merge_seconds=60.0))
    assert changed.chosen.rule.budget == 30.0 and changed.chosen.high <= again.chosen.high


def test_a_plot_is_written_beside(model: Path, tmp_path: Path) -> None:
    done = fit_threshold(model, EventConfig(budget=30.0), plot=tmp_path / "plot.svg")
    assert done.plot is not None and done.plot.stat().st_size > 1000
    with pytest.raises(PlotError):
        fit_threshold(model, EventConfig(value=1.0), plot=tmp_path / "other.svg")
    kept = ModelFolder(model).threshold()
    assert kept is not None and kept.rule.budget == 30.0, "what could not be done changes nothing"


def test_a_model_of_an_earlier_version_says_what_it_lacks(tmp_path: Path) -> None:
    old = model_of(tmp_path / "knn", held_out_of(VIDEOS, fps=None))
    with pytest.raises(EventError, match="train the model again with --force"):
        fit_threshold(old, EventConfig(budget=1.0))
    assert fit_threshold(old, EventConfig(quantile=0.9, release_quantile=0.9)).kept
    (old / "calibration.parquet").unlink()
    assert fit_threshold(old, EventConfig(value=9.0)).kept
    with pytest.raises(EventError, match="keeps no held-out rows"):
        fit_threshold(old, EventConfig(extreme=0.1))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="not a model folder"):
        fit_threshold(tmp_path, EventConfig(value=1.0))
