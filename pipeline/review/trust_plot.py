"""How far the rate that a threshold states can be trusted, for the page: the calibration plot."""

from __future__ import annotations

from typing import Any

from ..scores.columns import SCORE, config_of, thresholds_from
from ..scores.events import EventError
from ..scores.folder import ScoreFolder
from ..scores.trust import trust_in

MOST_ROWS = 5_000_000  # held-out rows: with more, leaving videos out takes minutes


def trust_plot(folder: ScoreFolder, column: str) -> dict[str, Any] | None:
    """Stated against measured rates, with each held-out video left out once.

    Args:
        folder:
            The score folder.
        column:
            The score column of the page; other columns than the score have none.

    Returns:
        `rule` and `lines` (what it rests on) in words, `unit`, and `points`: stated, measured, and
        the ends of the 95 % interval (or None) of each. None where there is no threshold or it was
        given, where nothing was held out or more than `MOST_ROWS` rows were, and where the rows do
        not say what the rule needs.

    Raises:
        HeldOutError: the held-out rows are damaged.
    """
    if column != SCORE or folder.threshold() is None:
        return None
    held_out, config = folder.held_out(), config_of(folder)
    if held_out is None or held_out.table.num_rows > MOST_ROWS:
        return None
    try:
        found = thresholds_from(folder, column)
        if found is None:
            return None
        calibration, thresholds = found
        trust = trust_in(config, calibration, held_out, thresholds)
    except EventError:  # a warning of the threshold says it
        return None
    return {
        "rule": config.rule_in_words(),
        "lines": [*trust.lines, *trust.warnings],
        "unit": trust.unit,
        "points": [[p.stated, p.found, p.least, p.most] for p in trust.curve],
    }
