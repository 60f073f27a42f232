"""Boxes a frame of feature sets with objects: what a threshold makes of training and test footage.

An object detector whose threshold does not suit some footage finds far more or fewer boxes there
than in training. All scores that follow are then about the detector, not about the scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...data_manifests.record import Manifest
from ...extractors.footage.video import ProbeRow
from ..store.feature_store import FeatureStore

ROLE = "frame/objects"  # an array with the number of objects of each frame
FAR = 3.0  # times as many boxes a frame as in training, or as few
FEW = 0.5  # boxes a frame that are added to both before they are compared: 0.1 and 0.4 are alike
MOST_NAMED = 10


def object_lines(
    stores: Sequence[FeatureStore], rows: Mapping[str, ProbeRow], manifest: Manifest
) -> list[str]:
    """Boxes a frame in each split, and a warning about videos that are far from training.

    Args:
        stores:
            Feature sets; those without a number of objects have no lines.
        rows:
            video_id -> its file; the videos that are complete in all of them.
        manifest:
            That names their splits.
    """
    lines = []
    for store in stores:
        names = [spec["name"] for spec in store.array_specs() if spec["role"] == ROLE]
        if names and rows:
            counts = {
                video: float(np.mean(store.read(row.content_id).arrays[names[0]][:]))
                for video, row in rows.items()
            }
            lines += _lines(store.name, counts, {r.video_id: r.split for r in manifest.records})
    return lines


def _lines(name: str, counts: Mapping[str, float], splits: Mapping[str, str]) -> list[str]:
    by_split: dict[str, list[float]] = {}
    for video, count in counts.items():
        by_split.setdefault(splits[video], []).append(count)
    parts = [
        f"{split} {np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f} by video)"
        for split, values in by_split.items()
    ]
    lines = [f"{name}: boxes a frame: {', '.join(parts)}"]
    training = by_split.get("train")
    if training is None:
        return lines
    usual = float(np.mean(training)) + FEW
    far = {v: n for v, n in counts.items() if not usual / FAR <= n + FEW <= usual * FAR}
    if far:
        worst = sorted(far, key=lambda video: -abs(np.log((far[video] + FEW) / usual)))
        named = ", ".join(f"{video} {far[video]:.1f}" for video in worst[:MOST_NAMED])
        lines.append(
            f"warning: {name}: boxes a frame are far from training in {len(far)} videos ({named}): "
            "look at them, and choose the threshold on training footage"
        )
    return lines
