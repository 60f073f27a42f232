"""Cells are means of their pixels; blocks are all rows once."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bags import bag
from vadpipe.detectors import cells
from vadpipe.detectors.base import DetectorError


@pytest.mark.parametrize("size", [(6, 8), (7, 11), (3, 4), (2, 3)])
def test_cells_equal_a_slow_oracle(size: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 256, (2, *size), dtype=np.int32)
    found = cells.cell_means(values, (3, 4))
    rows, columns = min(3, size[0]), min(4, size[1])
    assert found.shape == (2, rows, columns)
    for r in range(rows):
        for c in range(columns):
            inside = [
                values[:, y, x]
                for y in range(r * size[0] // rows, (r + 1) * size[0] // rows)
                for x in range(c * size[1] // columns, (c + 1) * size[1] // columns)
            ]
            assert found[:, r, c] == pytest.approx(np.mean(inside, axis=0), rel=1e-12)


def test_blocks_hold_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(10 * 2 * 2 * 3, dtype=np.uint8).reshape(10, 2, 2, 3)
    track = bag("a", {"pixels": x}).tracks["pixels"]
    monkeypatch.setattr(cells, "BLOCK_BYTES", 4 * 12)
    found = list(cells.blocks(track))
    assert [first for first, _ in found] == [0, 4, 8]
    assert np.array_equal(np.concatenate([rows for _, rows in found]), x)
    again = list(cells.blocks(track, before=1))
    assert [(first, len(rows)) for first, rows in again] == [(0, 4), (3, 5), (7, 3)]
    monkeypatch.setattr(cells, "BLOCK_BYTES", 1)
    assert len(list(cells.blocks(track))) == 10, "a row at least"


def test_other_rows_than_pictures_are_refused() -> None:
    video = bag("a", {"pixels": np.zeros((2, 4, 5), np.uint8)})
    with pytest.raises(DetectorError, match=r"'pixels' are \(4, 5\), not \(height, width, 3\)"):
        cells.pictures(video, "pixels", 3)
    two = np.zeros((2, 4, 5, 3), np.uint8)
    with pytest.raises(DetectorError, match="several tracks of 'pixels': pixels/a, pixels/b"):
        cells.pictures(bag("a", {"pixels/a": two, "pixels/b": two}), "pixels", 3)
