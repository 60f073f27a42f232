"""Evaluate stage: a score folder and the manifest's labels -> frame-level metrics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ..data_manifests.intervals import frame_labels
from ..data_manifests.record import Manifest
from .metrics import FrameMetrics, LabelledScores, MetricsError, expand_to_frames, frame_metrics
from .store import write_atomically


@dataclass(frozen=True)
class Evaluated:
    """The metrics, and which videos they leave out.

    Attributes:
        metrics: over all labelled videos that have scores.
        unlabelled: scored videos without frame labels.
        unscored: labelled videos without scores.
    """

    metrics: FrameMetrics
    unlabelled: tuple[str, ...]
    unscored: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What metrics.json holds."""
        return {
            **self.metrics.to_json(),
            "unlabelled": list(self.unlabelled),
            "unscored": list(self.unscored),
        }


def evaluate(scores: Path, manifest: Manifest) -> Evaluated:
    """Expand scores to frames, compare with the labels, write metrics.json into the folder.

    Frames are numbered in the whole file; a record's part is cut out of both. Ground truth is at
    the real length of a video.

    Args:
        scores:
            Score folder.
        manifest:
            Labels; videos that were not scored are named, not counted.

    Raises:
        MetricsError: nothing to measure, or a video's length is not the one that its labels are
            for.
    """
    path = scores / "videos.parquet"
    if not path.is_file():
        raise MetricsError(f"{scores} is no score folder: it has no videos.parquet (run score)")
    videos = {row["video_id"]: row for row in pq.read_table(path).to_pylist()}
    labelled: list[LabelledScores] = []
    unscored: list[str] = []
    wrong: list[str] = []
    for record in manifest.records:
        if record.anomalies is None:
            continue
        if record.video_id not in videos:
            unscored.append(record.video_id)
            continue
        video = videos.pop(record.video_id)
        n = video["n_frames"]
        needed = max([stop for _, stop in record.anomalies], default=0)
        if needed > n or record.expected_frames not in (None, n):
            expected = record.expected_frames or f"at least {needed}"
            wrong.append(f"{record.video_id} (labels for {expected} frames, decoded {n})")
            continue
        start, stop = video["frame_start"], video["frame_stop"]
        part = pq.read_table(scores / "scores" / f"{record.video_id}.parquet")
        expanded = expand_to_frames(
            part["frame_start"].to_numpy(),
            part["frame_stop"].to_numpy(),
            part["score"].to_numpy(),
            start,
            stop,
        )
        labels = frame_labels(record.anomalies, n)[start:stop]
        labelled.append(LabelledScores(record.video_id, expanded, labels))
    if wrong:
        raise MetricsError("labels and footage differ in length: " + "; ".join(wrong))
    if not labelled:
        raise MetricsError("no scored video has frame labels in this manifest")
    done = Evaluated(frame_metrics(labelled), tuple(videos), tuple(unscored))
    text = json.dumps(done.to_json(), indent=1)
    write_atomically(scores / "metrics.json", lambda p: p.write_text(text, encoding="utf-8"))
    return done
