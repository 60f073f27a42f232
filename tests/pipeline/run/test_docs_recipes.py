"""The recipes of the docs are valid, down to the settings of every detector."""

from __future__ import annotations

from pathlib import Path

import pytest

from vadpipe.pipeline.models import make_detector
from vadpipe.pipeline.run.config import load_run
from vadpipe.pipeline.run.graph import trainings_of

FOLDER = Path(__file__).parents[3] / "docs" / "recipes"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_a_recipe_of_the_docs_is_valid(path: Path) -> None:
    config = load_run(path)
    assert config.train
    for section in config.train:
        for cell in trainings_of(section, config.seed):
            detector = make_detector(section.detector, cell.settings)
            assert not section.init or "init" in detector.train_options
            known = {each.column for each in config.evaluate.also}
            assert known <= set(detector.columns), cell.name
