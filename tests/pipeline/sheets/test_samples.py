"""Sheets of training windows: what is drawn where, on which scale, and no sheet stops a fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vadpipe.detectors.samples import Sample
from vadpipe.extractors.flow_colours import flow_colours
from vadpipe.pipeline.sheets.layout import GAP, LABEL
from vadpipe.pipeline.sheets.samples import SIDE, SampleFiles, sample_sheet

H, W = 80, SIDE


def sample(**pictures: np.ndarray) -> Sample:
    return Sample(
        stage="spatial",
        when="first",
        step=3,
        steps=9,
        windows=("v1, row 8", "vidéo 视频, row 9"),
        pictures=pictures,
    )


def frames() -> Sample:
    normal = np.stack([np.full((H, W, 3), value, np.uint8) for value in (10, 200)])
    error = np.zeros((2, H, W))
    error[0, :40], error[1, :40] = 0.02, 0.01
    return sample(normal=normal, reconstruction=normal + 5, error=error)


def tile(sheet: np.ndarray, line: int, column: int, height: int = H, width: int = W) -> np.ndarray:
    y, x = GAP + line * (height + LABEL + GAP), GAP + column * (width + GAP)
    return sheet[y : y + height, x : x + width]


def test_a_line_for_each_window_and_a_column_for_each_kind_of_picture() -> None:
    sheet = sample_sheet(frames())
    for line, value in ((0, 10), (1, 200)):
        assert (tile(sheet, line, 0) == value).all()
        assert (tile(sheet, line, 1) == value + 5).all()
        assert (tile(sheet, line, 2)[40:] == 0).all()
    # one scale for the sheet: half the error is half as bright
    assert (tile(sheet, 0, 2)[:36] == 255).all() and (tile(sheet, 1, 2)[:36] == 128).all()


def test_flow_has_one_scale_too() -> None:
    flow = np.zeros((2, H, W, 2), np.float32)
    flow[0, ..., 0], flow[1, ..., 0] = 2.0, 4.0
    sheet = sample_sheet(sample(normal=flow, given=flow / 4))
    expected = flow_colours(np.stack([flow / 1, flow / 4]), 4.0)
    for line in range(2):
        for column in range(2):
            assert np.array_equal(tile(sheet, line, column), expected[column, line])


def test_large_and_upright_pictures_make_a_bounded_sheet(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 900, 300, 3), dtype=np.uint8)
    shown = sample(**{f"picture {i}": noise for i in range(6)})
    files = SampleFiles(tmp_path / "making", tmp_path / "kept")
    files.add(shown)
    assert files.keep() == ()
    path = tmp_path / "kept" / "spatial-first.jpg"
    assert path.stat().st_size < 300_000
    assert Image.open(path).size[1] == 2 * (3 * round(SIDE / 3) + LABEL + GAP) + GAP + LABEL + GAP


def test_what_cannot_be_drawn_or_kept_is_a_warning(tmp_path: Path) -> None:
    files = SampleFiles(tmp_path / "making", tmp_path / "kept")
    files.add(frames())
    files.add(replace(frames(), stage="../odd", pictures={"error": np.zeros((0, 4, 4))}))
    (tmp_path / "kept").write_text("no folder")
    first, second = files.keep()
    assert first.startswith("samples of ../odd could not be drawn: ")
    assert second.startswith(f"samples could not be kept in {tmp_path / 'kept'}: ")


def test_older_samples_go_and_those_of_a_killed_training_stay(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "old.jpg").write_bytes(b"")
    SampleFiles(tmp_path / "making", kept).add(frames())  # and is killed
    again = SampleFiles(tmp_path / "making", kept)
    again.add(replace(frames(), when="last"))
    assert again.keep() == ()
    assert sorted(p.name for p in kept.iterdir()) == ["spatial-first.jpg", "spatial-last.jpg"]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_network_that_returns_nothing_useful_is_drawn_all_the_same(value: float) -> None:
    sheet = sample_sheet(sample(error=np.full((2, H, W), value)))
    assert (tile(sheet, 0, 0) == 0).all()
