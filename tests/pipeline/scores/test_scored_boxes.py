"""Scored boxes from the tables of a score folder."""

from __future__ import annotations

import pyarrow as pa

from vadpipe.pipeline.scores.regions import checked_regions
from vadpipe.pipeline.scores.scored_boxes import ScoredBoxes


def test_regions_keep_their_order_and_are_cut_to_frames() -> None:
    columns = {
        "frame": [5, 2, 5],
        "x0": [1.5, 0, 2],
        "y0": [0.0, 0, 0],
        "x1": [3.0, 4, 4],
        "y1": [6.0, 5, 5],
        "score": [0.25, 0.5, 0.25],
    }
    found = ScoredBoxes.from_regions(checked_regions(pa.table(columns)))
    assert found.frame.tolist() == [2, 5, 5]
    assert found.box[1].tolist() == [1.5, 0, 3, 6]
    later = found.between(3, 6)
    assert (len(later), later.score.tolist()) == (2, [0.25, 0.25])
