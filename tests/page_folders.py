"""Score folders for tests of pages: with labels, maps, failures and footage as asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.detectors.base import Scores
from vadpipe.pipeline.metrics.frame_level import LabelledScores, frame_metrics
from vadpipe.pipeline.scores.events import Event, EventConfig, events_table, find_events
from vadpipe.pipeline.scores.frames import expand_to_frames
from vadpipe.pipeline.scores.maps import write_maps
from vadpipe.pipeline.scores.video_tables import VIDEO_SCHEMA

FPS = 25.0
HIGH, LOW = 2.0, 1.0
NASTY = "<script>alert(1)<&\"'>"


class ScoreFolder:
    """A score folder as the score stage leaves it, without running one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.videos: list[dict[str, Any]] = []
        self.events: dict[str, list[Event]] = {}
        self.failures: list[dict[str, str]] = []
        self.labelled: list[LabelledScores] = []
        self.records: list[VideoRecord] = []
        (path / "scores").mkdir(parents=True)

    def add(
        self,
        video_id: str,
        score: Any,
        *,
        step: int = 16,
        path: str = "/gone.mp4",
        content_id: str = "s1-" + "0" * 40,
        truth: tuple[tuple[int, int], ...] | None = None,
        first: int = 0,
        flags: tuple[str, ...] = (),
        maps: Iterable[str] = (),
        **facts: Any,
    ) -> None:
        score = np.asarray(score, dtype=np.float64)
        start = first + np.arange(len(score)) * step
        stop = start + step
        table = pa.table({"frame_start": start, "frame_stop": stop, "score": score})
        pq.write_table(table, self.path / "scores" / f"{video_id}.parquet")
        self.events[video_id] = find_events(start, stop, score, FPS, HIGH, LOW, EventConfig())
        self.videos.append(
            {
                "video_id": video_id,
                "path": path,
                "content_id": content_id,
                "kind": "video",
                "n_frames": int(stop[-1]),
                "fps": FPS,
                "height": 48,
                "width": 64,
                "frame_start": first,
                "frame_stop": int(stop[-1]),
                "flags": list(flags),
                **facts,
            }
        )
        rng = np.random.default_rng(0)
        values = {name: rng.random((len(score), 2, 3), np.float32) for name in maps}
        place = self.path / "maps" / f"{video_id}.h5"
        write_maps(place, Scores(start, stop, {"score": score}, values), "", {})
        if truth is not None:
            frames = np.arange(first, stop[-1])
            label = np.any([(frames >= a) & (frames < b) for a, b in truth] or [frames < 0], axis=0)
            expanded = expand_to_frames(start, stop, score, first, int(stop[-1]))
            self.labelled.append(LabelledScores(video_id, expanded, label))
            self.records.append(
                VideoRecord(video_id=video_id, path=video_id, split="test", anomalies=truth)
            )

    def write(self, **run: Any) -> Path:
        videos = pa.Table.from_pylist(self.videos, schema=VIDEO_SCHEMA)
        failures = {k: [f[k] for f in self.failures] for k in ("video_id", "stage", "error")}
        failures["message"] = [f["message"] for f in self.failures]
        pq.write_table(videos, self.path / "videos.parquet")
        pq.write_table(events_table(self.events), self.path / "events.parquet")
        pq.write_table(pa.table(failures), self.path / "failures.parquet")
        facts = {
            "dataset": "yard",
            "model": {"detector": "knn", "config": {"k": 5}, "features": {"snippet": {"v": 1}}},
            "threshold": {"high": HIGH, "low": LOW, "warnings": ["very few rows"]},
            "created": "2026-01-02T03:04:05+00:00",
            **run,
        }
        (self.path / "run.json").write_text(json.dumps(facts))
        if self.labelled:
            values = {**frame_metrics(self.labelled).to_json(), "unlabelled": [], "unscored": []}
            (self.path / "metrics.json").write_text(json.dumps(values))
        return self.path

    def manifest(self) -> Manifest:
        return Manifest(dataset="yard", root="/", records=tuple(self.records))


def spiky(rows: int, at: int, height: float = 5.0) -> np.ndarray:
    score = np.full(rows, 0.5)
    score[at : at + 3] = height
    return score
