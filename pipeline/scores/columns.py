"""Score columns other than "score": their thresholds and events come from the held-out rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .events import Calibration, EventConfig, EventThresholds, events_table, find_events
from .folder import ScoreFolder, ScoreFolderError
from .held_out import HeldOut
from .limit import Limit
from .rules import thresholds_of
from .video_tables import camera_of

SCORE = "score"  # the column that run.json and the table of events are about


def threshold_of(folder: ScoreFolder, column: str) -> float | None:
    """The value of a column above which frames start an event; raises what `limit_of` raises."""
    limit = limit_of(folder, column)
    return None if limit is None else limit.value


def limit_of(folder: ScoreFolder, column: str) -> Limit | None:
    """The threshold of a column; None where there is none.

    Raises:
        ScoreFolderError: the run is missing or damaged.
        HeldOutError: the held-out rows are damaged.
        EventError: they do not say what the rule of the threshold needs.
    """
    if column == SCORE:
        return _stated(folder)
    thresholds = _thresholds(folder, column)
    return None if thresholds is None else limit_at(folder, thresholds)


def limit_at(folder: ScoreFolder, thresholds: EventThresholds) -> Limit:
    """The thresholds of the videos of a score folder.

    Raises:
        ScoreFolderError: the table of videos is missing or damaged.
    """
    own = {scene: levels.high.value for scene, levels in thresholds.scenes.items()}
    return Limit(thresholds.high.value, thresholds.rule, _by_video(folder, own))


def _stated(folder: ScoreFolder) -> Limit | None:
    """The threshold that run.json states."""
    value, stated = folder.threshold(), folder.run().get("threshold") or {}
    if value is None:
        return None
    rule, scenes = stated.get("rule", ""), stated.get("scenes") or {}
    own = {scene: float(levels["high"]) for scene, levels in scenes.items()}
    return Limit(value, rule if isinstance(rule, str) else "", _by_video(folder, own))


def _by_video(folder: ScoreFolder, scenes: Mapping[str, float]) -> dict[str, float]:
    """Video -> the value of its scene, where that has one."""
    rows = folder.videos() if scenes else []
    return {r["video_id"]: scenes[r["scene"]] for r in rows if r.get("scene") in scenes}


def levels_of(folder: ScoreFolder, column: str) -> tuple[float, float] | None:
    """The two levels of the hysteresis of a column, the upper one first; None where there are none.

    Raises:
        ScoreFolderError: the run is missing or damaged.
        HeldOutError: the held-out rows are damaged.
    """
    if column != SCORE:
        thresholds = _thresholds(folder, column)
        return None if thresholds is None else (thresholds.high.value, thresholds.low.value)
    high = folder.threshold()
    low = (folder.run().get("threshold") or {}).get("low")
    if high is None:
        return None
    return _pair(high, low)


def own_levels_of(folder: ScoreFolder, column: str) -> dict[str, tuple[float, float]]:
    """Video -> the two levels of its scene as in `levels_of`, where that has some of its own.

    Raises:
        ScoreFolderError: the run or the table of videos is missing or damaged.
        HeldOutError: the held-out rows are damaged.
    """
    if column != SCORE:
        found = _thresholds(folder, column)
        scenes = {} if found is None else found.scenes
        levels = {scene: (t.high.value, t.low.value) for scene, t in scenes.items()}
    else:
        stated = (folder.run().get("threshold") or {}).get("scenes") or {}
        levels = {scene: _pair(float(own["high"]), own.get("low")) for scene, own in stated.items()}
    rows = folder.videos() if levels else []
    return {r["video_id"]: levels[r["scene"]] for r in rows if r.get("scene") in levels}


def _pair(high: float, low: Any) -> tuple[float, float]:
    known = isinstance(low, int | float) and math.isfinite(low)
    return high, min(float(low), high) if known else high


def warnings_of(folder: ScoreFolder, column: str) -> list[str]:
    """Why the threshold of a column deserves little trust, or is missing.

    Raises:
        ScoreFolderError: the run is missing or damaged.
        HeldOutError: the held-out rows are damaged.
    """
    if column == SCORE:
        return list((folder.run().get("threshold") or {}).get("warnings", []))
    thresholds = _thresholds(folder, column)
    if thresholds is None and config_of(folder).rule == "value":
        return [f"the threshold is a value of {SCORE}: column {column} has none, and no event"]
    if thresholds is None:
        return [f"there are no held-out rows of column {column}, so no threshold and no event"]
    return list(thresholds.to_json()["warnings"])


def events_of(folder: ScoreFolder, column: str) -> list[dict[str, Any]]:
    """One row for each event of a column: `EVENT_SCHEMA`, `scene` and `scene_trained`.

    Events of "score" stand in a table; those of other columns are found here in the same way. There
    are none where the column has no held-out rows.

    Raises:
        ScoreFolderError: a table is missing or damaged, or a video has no such column.
        HeldOutError: the held-out rows are damaged.
    """
    if column == SCORE:
        return folder.events()
    thresholds = _thresholds(folder, column)
    if thresholds is None:
        return []
    config, found, cameras = config_of(folder), {}, {}
    for video in folder.videos():
        cameras[video["video_id"]] = camera_of(video)
        part = folder.scores(video["video_id"], column)
        found[video["video_id"]] = find_events(
            part["frame_start"].to_numpy(),
            part["frame_stop"].to_numpy(),
            part[column].to_numpy(),
            video["fps"],
            thresholds.of(video.get("scene")).high.value,
            thresholds.of(video.get("scene")).low.value,
            config,
        )
    return [row | cameras[row["video_id"]] for row in events_table(found).to_pylist()]


def _thresholds(folder: ScoreFolder, column: str) -> EventThresholds | None:
    found = thresholds_from(folder, column)
    return None if found is None else found[1]


def thresholds_from(folder: ScoreFolder, column: str) -> tuple[Calibration, EventThresholds] | None:
    """The thresholds that the held-out rows of a column give, and how its normal scores lie.

    None where nothing was held out, or the threshold is a given value.

    Raises:
        ScoreFolderError: the run is missing or damaged.
        HeldOutError: the held-out rows are damaged.
        EventError: they do not say what the rule of the threshold needs.
    """
    held_out, config = folder.held_out(), config_of(folder)
    if held_out is None or column not in held_out.columns or config.rule == "value":
        return None
    calibration = _calibration(held_out, column, doubts_of(folder.run()))
    return calibration, thresholds_of(config, calibration, held_out, column)


def doubts_of(run: Mapping[str, Any]) -> list[str]:
    """Why the held-out rows of a run are not what normal scores of new footage are."""
    return list(((run.get("threshold") or {}).get("calibration") or {}).get("warnings", []))


def _calibration(held_out: HeldOut, column: str, doubts: Sequence[str]) -> Calibration:
    videos = [held_out.of_video(video_id).values(column) for video_id in held_out.videos]
    method = f"held-out rows of column {column}"
    return Calibration.from_scores(videos, method=method, warnings=doubts)


def config_of(folder: ScoreFolder) -> EventConfig:
    """How the run made its events."""
    try:
        return EventConfig.model_validate(folder.run().get("events") or {})
    except ValueError as error:
        raise ScoreFolderError(
            f"{folder.run_file}: events are not settings ({error}): run score again"
        ) from error
