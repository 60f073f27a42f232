"""Boxes on frames: their places on the tile, and what lies outside of it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vadpipe.extractors.footage.errors import SeekMismatch
from vadpipe.pipeline.sheets import boxes as module
from vadpipe.pipeline.sheets.boxes import LINE, Boxes, boxed, frames_of


def test_boxes_are_drawn_at_the_scale_of_the_tile() -> None:
    frame = np.zeros((80, 120, 3), np.uint8)
    corners = np.array([[20, 40, 60, 70], [-9, -9, 500, 500]], np.float32)
    tile = boxed(frame, Boxes(corners, ["", ""]), 60)
    assert tile.shape == (40, 60, 3) and not frame.any()
    line = (tile == LINE).all(axis=-1)
    assert line[20, 10:30].all() and line[34, 10:30].all() and line[20:35, 10].all()
    assert line[20:35, 29].all() and not line[24:32, 13:26].any()
    assert line[0].all() and line[:, 59].all()  # what is larger than the picture ends at its edge


def test_frames_come_by_their_number_and_in_order_where_seeking_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    class Reader:
        def __init__(self, row: Any, start: int, stop: int) -> None:
            asked.append((row, start, stop))
            self.row, self.start = row, start

        def __enter__(self) -> Iterator[Any]:
            if self.row == "seeks":
                raise SeekMismatch("wrong")
            length = 5  # of the video
            return (SimpleNamespace(index=n, image=n) for n in range(self.start, length))

        def __exit__(self, *_: Any) -> None: ...

    monkeypatch.setattr(module, "guarded_frames", Reader)
    monkeypatch.setattr(module, "in_order", lambda row: f"{row} no more")
    assert frames_of("seeks", [1, 3, 9]) == {1: 1, 3: 3}  # type: ignore[arg-type]
    assert asked == [("seeks", 1, 2), *(("seeks no more", n, n + 1) for n in (1, 3, 9))]
