"""Small score folders, written without a model or footage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vadpipe.data_manifests.record import VideoRecord
from vadpipe.detectors.base import Scores
from vadpipe.extractors.footage.video import ProbeRow
from vadpipe.pipeline.scores.events import Calibration, EventConfig, events_table, find_events
from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.scores.held_out import HeldOut
from vadpipe.pipeline.scores.video_tables import video_row
from vadpipe.pipeline.store.failures import Failure

FPS = 25.0


def rows(score: ArrayLike, step: int = 8, first: int = 0, **columns: ArrayLike) -> Scores:
    """Rows of `step` frames, one after another; further columns by name."""
    values = np.asarray(score, np.float64)
    start = first + step * np.arange(len(values))
    more = {name: np.asarray(column, np.float64) for name, column in columns.items()}
    return Scores(start, start + step, {"score": values, **more})


def write_score_folder(
    path: Path,
    scores: Mapping[str, Scores],
    held_out: Mapping[str, Scores] | None,
    *,
    failures: Sequence[Failure] = (),
    model: Mapping[str, Any] | None = None,
    content: str = "",
) -> ScoreFolder:
    """Write a folder as score does; `content` makes the footage another one."""
    folder = ScoreFolder(path)
    thresholds = None
    if held_out is not None:
        normal = [each.columns["score"] for each in held_out.values()]
        thresholds = Calibration.from_scores(normal, method="test").thresholds(EventConfig())
    columns = list(next(iter(scores.values())).columns)
    with folder.locked(), folder.tables("test", columns) as tables:
        for number, (video_id, each) in enumerate(scores.items()):
            facts = {"n_frames": int(max(each.frame_stop)), "fps": FPS, "flags": []}
            content_id = f"s1-{content}{number:0{40 - len(content)}d}"
            probed = ProbeRow(
                f"/none/{video_id}.mp4", content_id, "video", facts["n_frames"], True,
                FPS, 48, 64, 0, facts["n_frames"] / FPS, "h264", "mp4",
            )  # fmt: skip
            folder.write_scores(video_id, each, f"stamp {video_id}", facts)
            part = folder.scores(video_id)
            found = {video_id: []}
            if thresholds is not None:
                found[video_id] = find_events(
                    each.frame_start, each.frame_stop, each.columns["score"], FPS,
                    thresholds.high.value, thresholds.low.value, EventConfig(),
                )  # fmt: skip
            tables.add_scores(part)
            record = VideoRecord(video_id=video_id, path=f"{video_id}.mp4", split="test")
            tables.add([video_row(record, probed, part)], events_table(found))
    folder.write_failures(failures)
    kept = None
    if held_out is not None:
        kept = HeldOut.from_scores(list(held_out), list(held_out.values()))
    folder.write_held_out(kept)
    folder.write_run(
        {
            "dataset": "tiny",
            "manifest_digest": "d",
            "model": {"key": path.name, "detector": "test", "folder": "models/test-1"}
            | dict(model or {}),
            "threshold": None if thresholds is None else thresholds.to_json(),
            "events": EventConfig().model_dump(mode="json"),
        }
    )
    return folder
