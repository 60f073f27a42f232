"""Boxes from maps: the map at a frame is the oracle, components and their cells are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vadpipe.detectors.base import Scores
from vadpipe.pipeline.scores import map_detections as module
from vadpipe.pipeline.scores.frames import MetricsError
from vadpipe.pipeline.scores.map_detections import map_detections, map_threshold
from vadpipe.pipeline.scores.maps import ScoreMaps, open_maps, write_maps


def stored(
    path: Path, values: NDArray[np.float32], first: list[int], last: list[int], share: float = 1.0
) -> ScoreMaps:
    scores = Scores(
        np.array(first), np.array(last), {"score": np.zeros(len(first))}, maps={"m": values}
    )
    write_maps(path, scores, "stamp", {values.shape[1:]: (share, 1.0)})
    found = open_maps(path)
    assert found is not None
    return found


def test_components_become_boxes_in_pixels_with_their_highest_value(tmp_path: Path) -> None:
    values = np.zeros((1, 4, 6), np.float32)
    values[0, 0, 0], values[0, 1, 1] = 2.0, 4.0  # they touch at a corner
    values[0, 3, 3:6] = 1.5, 1.0, 2.0  # the middle cell is not above 1: two parts
    values[0, 0, 5] = np.nan
    maps = stored(tmp_path / "v.h5", values, [2], [4], share=0.5)
    found = map_detections(maps, "m", 1.0, (2, 4), (80, 120))
    assert found.frame.tolist() == [2, 2, 2, 3, 3, 3]
    assert found.score[:3].tolist() == [4.0, 1.5, 2.0]
    # Cells are 20 wide and, as the grid covers the upper half, 10 high.
    assert found.box[0].tolist() == [0, 0, 40, 20]
    assert found.box[1].tolist() == [60, 30, 80, 40]


@pytest.mark.parametrize("rows_at_once", [1, 256])
def test_frames_take_the_map_of_their_rows(
    tmp_path: Path, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overlaps, gaps of even and odd length, frames before and after, a row inside another."""
    monkeypatch.setattr(module, "ROWS", rows_at_once)
    first, last = [3, 5, 6, 14, 21], [9, 11, 8, 18, 24]
    values = np.random.default_rng(1).random((5, 3, 3)).astype(np.float32)
    maps = stored(tmp_path / "v.h5", values, first, last)
    found = map_detections(maps, "m", -1.0, (1, 30), (30, 30))
    assert found.frame.tolist() == list(range(1, 30))  # one component a frame: all cells
    expected = [maps.at("m", frame).max() for frame in range(1, 30)]
    np.testing.assert_allclose(found.score, expected, rtol=1e-6)


def test_the_threshold_is_a_quantile_over_all_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    videos = {
        name: stored(tmp_path / f"{name}.h5", values + shift, [0, 1, 2], [1, 2, 3])
        for name, shift in (("a", 0), ("b", 12))
    }
    expected = np.quantile(np.arange(24), 0.9)
    assert map_threshold(videos, "m", 0.9) == pytest.approx(expected, rel=1e-3)
    monkeypatch.setattr(module, "SAMPLE_VALUES", 12)  # every second row
    sampled = np.concatenate([values[::2], values[::2] + 12])
    assert map_threshold(videos, "m", 0.9) == pytest.approx(np.quantile(sampled, 0.9), rel=1e-3)
    with pytest.raises(MetricsError, match="no finite value"):
        map_threshold({}, "m")
    with pytest.raises(MetricsError, match="from 0 to 1"):
        map_threshold(videos, "m", 1.5)
