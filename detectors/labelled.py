"""The labels of training videos, both classes of which are needed."""

from __future__ import annotations

from .base import BagSource, DetectorError


def labelled(source: BagSource) -> tuple[list[str], list[int]]:
    """Collect ids and labels of all bags.

    Raises:
        DetectorError: a bag has no label, or all have the same; the message names them.
    """
    # One pass only, because each bag opens files.
    pairs = [(bag.video_id, bag.label) for bag in source]
    ids = [video_id for video_id, _ in pairs]
    unknown = [video_id for video_id, label in pairs if label is None]
    if unknown:
        raise DetectorError(f"{len(unknown)} videos have no label: {', '.join(unknown[:20])}")
    known = [int(label) for _, label in pairs if label is not None]
    if len(set(known)) < 2:
        kind = {0: "normal", 1: "abnormal"}.get(known[0]) if known else "missing"
        raise DetectorError(
            f"all {len(ids)} training videos are {kind}: training needs both classes "
            f"({', '.join(ids[:20])})"
        )
    return ids, known
