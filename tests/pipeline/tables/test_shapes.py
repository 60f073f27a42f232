"""Pictures whose mask is no shape of an object are counted, each content once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from tests.chain import drawing, run_chain, video
from vadpipe.extractors import perturb
from vadpipe.pipeline.engine.extractor_spec import resolve_extractor
from vadpipe.pipeline.tables.shapes import shape_lines

SETTINGS = {"size": [16, 24], "inpainter": "patch_mix", "shapes": "motion"}


def test_masks_that_are_random_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: Iterator[np.ndarray | None] = cycle([np.eye(16, 24, dtype=bool), None, None])
    monkeypatch.setattr(perturb, "moved_shape", lambda *_: next(moved))
    row, spec = video(9), resolve_extractor("perturb", SETTINGS)
    stores = run_chain(tmp_path, row, [spec, resolve_extractor("null")], 16, drawing(9))
    (line,) = shape_lines(stores, {"a": row, "copy of a": row})
    assert line == (
        f"{stores[0].name}: 6 of 9 pictures have no object whose shape can be moved: their masks "
        "are random"
    )
    assert shape_lines(stores, {}) == []
