"""How many masks of perturbed pictures are the shape of an object, and how many are random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...extractors.footage.video import ProbeRow
from ..store.feature_store import FeatureStore

ROLE = "frame/shaped"  # an array with 1 where a mask is the shape of an object


def shape_lines(stores: Sequence[FeatureStore], rows: Mapping[str, ProbeRow]) -> list[str]:
    """A line for each feature set that was asked for shapes.

    Args:
        stores:
            Feature sets; those that were not asked for shapes have no lines.
        rows:
            video_id -> its file; the videos that are complete in all of them.
    """
    lines = []
    contents = {row.content_id for row in rows.values()}
    for store in stores:
        names = [spec["name"] for spec in store.array_specs() if spec["role"] == ROLE]
        if not names or not contents:
            continue
        shaped = np.concatenate([store.read(c).arrays[names[0]][:] for c in sorted(contents)])
        random = len(shaped) - int(shaped.sum())
        line = f"{store.name}: {random:,} of {len(shaped):,} pictures have no object whose shape"
        lines.append(f"{line} can be moved: their masks are random")
    return lines
