"""Several systems on one page: each score as its place among the normal scores of its own model.

Distances, errors and probabilities have no common unit. Their quantiles among held-out normal
scores do (see `QuantileMap`), so curves of several systems are drawn over one axis.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...data_manifests.errors import VadpipeError
from ..scores.columns import SCORE, events_of, threshold_of
from ..scores.folder import ScoreFolder
from ..scores.frames import expand_to_runs
from ..scores.held_out import HeldOutError
from ..scores.of_run import short_names
from ..scores.quantiles import QuantileMap
from ..scores.same_footage import check_same_footage
from .chunks import packed_floats


class SystemsError(VadpipeError, ValueError):
    """Score folders that cannot be shown together; the message says what to do."""


@dataclass(frozen=True)
class System:
    """One of the score folders of a page.

    Attributes:
        name: what the page calls it.
        folder: its scores.
        column: the score column that is shown.
        quantile: maps a raw score to its place among the held-out ones.
        events: video id -> first frame and one past the last of each of its events.
    """

    name: str
    folder: ScoreFolder
    column: str
    quantile: QuantileMap
    events: Mapping[str, Sequence[tuple[int, int]]]

    @classmethod
    def of(cls, name: str, folder: ScoreFolder, column: str) -> System:
        """Open a score folder.

        Raises:
            SystemsError: it has no held-out rows of the column.
            ScoreFolderError: it is incomplete or damaged.
        """
        held_out = folder.held_out()
        try:
            if held_out is None:
                raise HeldOutError("it has no held-out rows")
            quantile = QuantileMap(held_out.values(column))
        except HeldOutError as error:
            raise SystemsError(
                f"{folder.path} has no scale that others share ({error}): run vadpipe score again, "
                "with a model that held out normal videos"
            ) from error
        found: dict[str, list[tuple[int, int]]] = {}
        for event in events_of(folder, column):
            span = (event["frame_start"], event["frame_stop"])
            found.setdefault(event["video_id"], []).append(span)
        return cls(name, folder, column, quantile, {v: sorted(e) for v, e in found.items()})

    def values(self) -> dict[str, Any]:
        """What the page says of the system; `high` is the quantile of its threshold, maybe None."""
        model = self.folder.run().get("model") or {}
        high = threshold_of(self.folder, self.column)
        return {
            "name": self.name,
            "detector": str(model.get("detector") or ""),
            "scores": str(self.folder.path.absolute()),
            "high": None if high is None else float(self.quantile(high)),
        }

    def curve(self, video_id: str) -> tuple[dict[str, Any], int]:
        """One video: runs of equal frames with the quantile of their score, and how many runs.

        A frame has the mean of the rows that cover it, as everywhere; the quantile is of that
        mean, so a frame above the threshold has a quantile that is not below the threshold's.

        Raises:
            MetricsError: the rows are no windows of frames with finite scores.
        """
        part = self.folder.scores(video_id, self.column)
        first, lengths, values = expand_to_runs(
            part["frame_start"].to_numpy(),
            part["frame_stop"].to_numpy(),
            part[self.column].to_numpy(),
        )
        stored = {
            "first": first,
            "lengths": packed_floats(lengths.astype(np.float64)),
            "values": packed_floats(self.quantile(values)),
            "events": [list(span) for span in self.events.get(video_id, ())],
        }
        return stored, len(lengths)


def open_systems(folder: ScoreFolder, column: str, beside: Sequence[Path]) -> list[System]:
    """The systems of a page: its own score folder first; none where nothing stands beside it.

    Args:
        folder:
            Of the page.
        column:
            Its score column; that of the others is "score".
        beside:
            Other score folders of the same footage.

    Raises:
        OtherFootageError: they are about different footage.
        SystemsError: one has no held-out rows.
        ScoreFolderError: one is incomplete or damaged, or named twice.
    """
    if not beside:
        return []
    every = [folder, *(ScoreFolder(path) for path in beside)]
    named = short_names([(Path(os.path.realpath(each.path)).name, each) for each in every])
    check_same_footage(named)
    return [
        System.of(name, each, column if each is folder else SCORE) for name, each in named.items()
    ]
