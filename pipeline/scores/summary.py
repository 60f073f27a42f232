"""The tables over all videos of a score folder, made from their parts in one pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...data_manifests.stored import DamagedFile
from ..store.failures import Failure, describe_failure
from .events import Event, EventConfig, EventError, EventThresholds, events_table, find_events
from .folder import ScoreFolder, ScoreFolderError
from .frames import MetricsError
from .part import count_of_part
from .regions import RegionError, Why, why_between
from .smoothing import RAW, Smoothing
from .video_tables import ColumnsError

NAMED = 10  # scenes in a message
ROW_GROUP = 1000  # videos whose rows and events are written together

# What one part can have wrong.
FAULTS = (ColumnsError, DamagedFile, EventError, MetricsError, RegionError, ScoreFolderError)

# The row of a video in the table of videos, from its part.
RowOf = Callable[[pa.Table], Mapping[str, Any]]


@dataclass
class Summary:
    """What the tables say.

    Attributes:
        videos: video ids, in the order of the tables.
        events: found in all.
        failures: videos whose part cannot be used, and why.
        new_scenes: scene that the model was not trained on -> its videos.
        boxes: video id -> boxes a frame, of videos whose part states it.
    """

    videos: list[str] = field(default_factory=list)
    events: int = 0
    failures: list[Failure] = field(default_factory=list)
    new_scenes: dict[str, int] = field(default_factory=dict)
    boxes: dict[str, float] = field(default_factory=dict)


def made_by(distributions: Sequence[str], command: str) -> dict[str, Any]:
    """What run.json says of the versions of distributions, the command and the time."""
    return {
        "versions": {name: version(name) for name in distributions},
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def about_model(
    folder: Path,
    facts: Mapping[str, Any],
    held_out: Mapping[str, Any],
    thresholds: EventThresholds,
    config: EventConfig,
    smooth: str | None,
) -> dict[str, Any]:
    """What run.json says of a model, its thresholds and events.

    Args:
        folder:
            Of the model.
        facts:
            What the model is.
        held_out:
            The calibration in its card.
        thresholds:
            Made of it.
        config:
            How scores become events.
        smooth:
            How scores are smoothed; None: they are not.
    """
    kept = ("n_rows", "n_videos", "method", "warnings")
    calibration = {k: held_out[k] for k in kept if k in held_out}
    return {
        **({} if smooth is None else {"smooth": smooth}),
        "model": {"folder": str(folder), **facts},
        "threshold": {**thresholds.to_json(), "calibration": calibration},
        "events": config.model_dump(mode="json"),
    }


def as_it_is(row: Mapping[str, Any], part: pa.Table) -> Mapping[str, Any]:
    """The row of a video that is known already."""
    return row


def write_summary(
    folder: ScoreFolder,
    detector: str,
    columns: Sequence[str],
    videos: Sequence[tuple[str, RowOf]],
    thresholds: EventThresholds | None,
    config: EventConfig,
    *,
    smoothing: Smoothing | None = None,
    regions: bool = False,
    trained_scenes: Collection[str] = (),
    stage: str,
) -> Summary:
    """Write the tables of scores, videos and events of all these videos, in the given order.

    Scores get a row group for each video, the others one for `ROW_GROUP` videos, so memory does not
    grow with the number of videos.

    Args:
        folder:
            Holds a part for each video.
        detector:
            Its name.
        columns:
            Its score columns, without those of smoothing.
        videos:
            (video id, its row).
        thresholds:
            Above which events are; None finds none.
        config:
            How scores become events.
        smoothing:
            What is done to the score of each part before.
        regions:
            Whether the detector makes boxes: then the table of events has the columns of `Why`.
        trained_scenes:
            Those that the model was trained on; () if none is known.
        stage:
            Named in failures.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    done = Summary()
    columns = columns if smoothing is None else [*columns, RAW]
    with folder.tables(detector, columns) as tables:
        for first in range(0, len(videos), ROW_GROUP):
            found: dict[str, list[Event]] = {}
            reasons: list[Why] = []
            rows: list[Mapping[str, Any]] = []
            for video_id, row_of in videos[first : first + ROW_GROUP]:
                try:
                    folder.smooth(video_id, smoothing)
                    part = folder.scores(video_id)
                    row = row_of(part)
                    row = {**row, "scene_trained": _is_trained(row.get("scene"), trained_scenes)}
                    own = None if thresholds is None else thresholds.of(row.get("scene"))
                    events = _events(part, row["fps"], own, config)
                    why = _reasons(folder, video_id, events) if regions else []
                    tables.add_scores(part)
                except FAULTS as error:
                    done.failures.append(describe_failure(video_id, stage, error))
                    continue
                if row["scene_trained"] is False:
                    done.new_scenes[row["scene"]] = done.new_scenes.get(row["scene"], 0) + 1
                rows.append(row)
                found[video_id] = events
                reasons += why
                if (count := count_of_part(part.schema.metadata or {})) is not None:
                    done.boxes[video_id] = count
            table = events_table(found)
            if regions:
                for name in ("explain", "words"):
                    texts = [getattr(why, name) for why in reasons]
                    table = table.append_column(name, pa.array(texts, pa.string()))
            tables.add(rows, table)
            done.videos += found
            done.events += sum(map(len, found.values()))
    return done


def _is_trained(scene: Any, trained: Collection[str]) -> bool | None:
    """Whether a model was trained on a scene; None where that is not known."""
    return scene in trained if trained and isinstance(scene, str) else None


def new_scene_lines(run: Mapping[str, Any]) -> list[str]:
    """What a run says of footage of scenes that its model was not trained on.

    Args:
        run:
            See `ScoreFolder.run`.
    """
    found = run.get("new_scenes")
    if not isinstance(found, dict) or not found:
        return []
    listed = [f"{scene} ({videos})" for scene, videos in found.items()]
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return [
        "footage of scenes that the model was not trained on, with their videos: "
        f"{', '.join(listed[:NAMED])}{more}; their scores may be high for the new camera alone, "
        "and the threshold is that of other cameras: train on normal footage of them"
    ]


def own_threshold_lines(run: Mapping[str, Any]) -> list[str]:
    """What a run says of scenes that have a threshold of their own; see `new_scene_lines`."""
    own = (run.get("threshold") or {}).get("scenes") or {}
    if not own:
        return []
    listed = [f"{scene} {levels['high']:.4g}" for scene, levels in own.items()]
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return [
        f"scenes with a threshold of their own: {', '.join(listed[:NAMED])}{more}; one that is "
        "moved on the page is that of all"
    ]


def _events(
    part: pa.Table, fps: float, thresholds: EventThresholds | None, config: EventConfig
) -> list[Event]:
    if thresholds is None:
        return []
    return find_events(
        part["frame_start"].to_numpy(),
        part["frame_stop"].to_numpy(),
        part["score"].to_numpy(),
        fps,
        thresholds.high.value,
        thresholds.low.value,
        config,
    )


def _reasons(folder: ScoreFolder, video_id: str, events: Sequence[Event]) -> list[Why]:
    """Why each event is one, by its boxes."""
    table = folder.regions(video_id) if events else None
    if table is None:
        return [Why()] * len(events)
    return [why_between(table, event.frame_start, event.frame_stop) for event in events]
