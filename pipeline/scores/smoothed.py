"""Thresholds of smoothed scores: held-out scores are smoothed in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .columns import SCORE, config_of, limit_at, limit_of
from .events import Calibration, EventConfig, EventThresholds
from .folder import ScoreFolder
from .held_out import HeldOut
from .limit import Limit
from .rules import thresholds_of
from .smoothing import RAW, SmoothError, Smoothing, smooth_held_out


def calibrated(
    held_out: HeldOut | None,
    card: Mapping[str, Any],
    config: EventConfig,
    smoothing: Smoothing | None,
) -> tuple[EventThresholds, HeldOut | None]:
    """The thresholds of a model, and the held-out rows for its score folder.

    Args:
        held_out:
            Of the model.
        card:
            Of the model.
        config:
            Which rule.
        smoothing:
            Of the scores.

    Raises:
        SmoothError: the model has no held-out rows, or they do not say their frame rates.
        EventError: the calibration is damaged, or the rule needs what the rows do not have.
    """
    calibration = Calibration.from_json(card["calibration"])
    if smoothing is None:
        return thresholds_of(config, calibration, held_out), held_out
    if held_out is None:
        raise SmoothError(
            "the model has no held-out rows, so no threshold for smoothed scores: train it again "
            "with --force"
        )
    if RAW in held_out.columns:
        raise SmoothError(f"the detector has a column {RAW!r} of its own: do not smooth its scores")
    smooth = smooth_held_out(held_out, smoothing, keep_raw=True)
    method = f"{calibration.method}, smoothed by {smoothing.text}"
    again = _calibration(smooth, SCORE, method, calibration.warnings)
    return thresholds_of(config, again, smooth), smooth


def smoothing_of(folder: ScoreFolder, column: str, asked: Smoothing | None) -> str | None:
    """What a measurement of a column is smoothed by, as text.

    Raises:
        SmoothError: it would be smoothed twice.
        ScoreFolderError: the run is missing or damaged.
    """
    before = folder.smoothing() if column == SCORE else None
    if before is not None and asked is not None:
        raise SmoothError(
            f"the scores in {folder.path} are smoothed by {before}: measure the column {RAW!r}"
        )
    return before if asked is None else asked.text


def measured_threshold(
    folder: ScoreFolder, column: str, smoothing: Smoothing | None
) -> Limit | None:
    """The threshold of a column of a score folder whose rows are smoothed as they are measured.

    None where there are no held-out rows of it.

    Raises:
        SmoothError: the held-out rows do not say their frame rates.
        ScoreFolderError: the run is missing or damaged.
        HeldOutError: the held-out rows are damaged.
    """
    if smoothing is None:
        return limit_of(folder, column)
    held_out = folder.held_out()
    if held_out is None or column not in held_out.columns:
        return None
    smooth = smooth_held_out(held_out, smoothing, column)
    calibration = _calibration(smooth, column, f"smoothed by {smoothing.text}", ())
    thresholds = thresholds_of(config_of(folder), calibration, smooth, column)
    return limit_at(folder, thresholds)


def _calibration(
    held_out: HeldOut, column: str, method: str, warnings: tuple[str, ...]
) -> Calibration:
    videos = [held_out.of_video(video_id).values(column) for video_id in held_out.videos]
    return Calibration.from_scores(videos, method=method, warnings=warnings)
