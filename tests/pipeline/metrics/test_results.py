"""Metrics as JSON: nothing is lost, and what earlier versions wrote is read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vadpipe.pipeline.metrics.frame_level import LabelledScores, frame_metrics
from vadpipe.pipeline.metrics.results import FrameMetrics
from vadpipe.pipeline.scores.frames import MetricsError


def test_json_keeps_everything_and_is_strict():
    rng = np.random.default_rng(6)
    videos = [
        LabelledScores(f"v{i}", rng.random(9), np.arange(9) % 3 == i % 2, category="X")
        for i in range(4)
    ]
    got = frame_metrics(videos, threshold=0.3, replicates=5)
    text = json.dumps(got.to_json(), allow_nan=False)
    assert FrameMetrics.from_json({**json.loads(text), "further": 1}) == got
    with pytest.raises(MetricsError, match="micro_auc"):
        FrameMetrics.from_json({k: v for k, v in json.loads(text).items() if k != "micro_auc"})


def test_metrics_of_earlier_versions_are_read():
    old = {
        "n_videos": 1,
        "n_frames": 2,
        "n_abnormal": 1,
        "micro_auc": 1.0,
        "macro_auc_padded": 1.0,
        "macro_auc_valid": 1.0,
        "n_valid": 1,
        "average_precision": 1.0,
        "pr_auc": 1.0,
        "score_gap": 0.5,
        "padding": "extreme",
        "undefined": {},
        "roc": {"fpr": [0.0, 1.0], "tpr": [0.0, 1.0]},
        "videos": [
            {"video_id": "v", "n_frames": 2, "n_abnormal": 1, "auc": 1.0, "auc_padded": 1.0}
        ],
        "unlabelled": [],
        "unscored": [],
    }
    got = FrameMetrics.from_json(old)
    assert got.micro_auc == 1.0 and got.videos[0].n_padding == 0 and got.categories == ()
    assert got.bootstrap is None and got.alignment is None and got.false_alarms is None
