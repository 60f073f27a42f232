"""The calibration plot: formats, intervals, what cannot be drawn."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from vadpipe.pipeline.scores.calibration_plot import PlotError, write_plot
from vadpipe.pipeline.scores.events import EventConfig
from vadpipe.pipeline.scores.stored_threshold import Measured, StoredThreshold

CURVE = (
    Measured(stated=1.0, found=0.0, least=0.0, most=3.0),
    Measured(stated=10.0, found=12.0, least=6.0, most=21.0),
)
BUDGET = StoredThreshold(
    rule=EventConfig(budget=2.0), high=3.0, low=1.0, unit="events a day", curve=CURVE
)


def test_svg_holds_what_is_stated_and_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    for path in (first, second):
        write_plot(BUDGET, path)
    text = first.read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "events a day, measured" in text and "budget 2 events per camera and day: 3" in text
    assert text == second.read_text(encoding="utf-8")


@pytest.mark.parametrize("curve", [CURVE, tuple(Measured(stated=s, found=s) for s in (0.1, 0.01))])
def test_png_is_a_picture(tmp_path: Path, curve: tuple[Measured, ...]) -> None:
    write_plot(BUDGET.model_copy(update={"curve": curve}), tmp_path / "a.PNG")
    with Image.open(tmp_path / "a.PNG") as picture:
        assert picture.format == "PNG" and min(picture.size) > 300


def test_what_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    with pytest.raises(PlotError, match=r"suffix \.png, \.svg, \.pdf"):
        write_plot(BUDGET, tmp_path / "a.txt")
    with pytest.raises(PlotError, match="nothing to plot"):
        write_plot(BUDGET.model_copy(update={"curve": ()}), tmp_path / "a.png")
    value = BUDGET.model_copy(update={"rule": EventConfig(value=3.0)})
    with pytest.raises(PlotError, match="states no rate"):
        write_plot(value, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
