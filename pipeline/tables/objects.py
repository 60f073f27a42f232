"""Boxes a frame of feature sets, by split, with a warning about videos far from training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...data_manifests.record import Manifest, VideoRecord
from ...extractors.footage.video import ProbeRow
from ..scores.box_counts import ROLE, far_from, far_warning
from ..store.feature_store import FeatureStore


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
            lines += _lines(store.name, counts, {r.video_id: r for r in manifest.records})
    return lines


def _lines(name: str, counts: Mapping[str, float], records: Mapping[str, VideoRecord]) -> list[str]:
    by_split: dict[str, list[float]] = {}
    by_scene: dict[str | None, list[float]] = {}  # of what trains
    for video, count in counts.items():
        by_split.setdefault(records[video].split, []).append(count)
        if records[video].split == "train":
            by_scene.setdefault(records[video].scene, []).append(count)
    parts = [
        f"{split} {np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f} by video)"
        for split, values in by_split.items()
    ]
    lines = [f"{name}: boxes a frame: {', '.join(parts)}"]
    training = by_split.get("train")
    if training is None:
        return lines
    means = {scene: float(np.mean(values)) for scene, values in by_scene.items()}
    usual = {v: means[records[v].scene] for v in counts if records[v].scene in means}
    far = far_from(float(np.mean(training)), counts, usual)
    return [*lines, f"warning: {name}: {far_warning(far)}"] if far else lines
