"""Metrics by the size of the anomaly: how well small ones are found.

The size of an abnormal frame is the share of its pixels that its mask marks. The abnormal frames of
all videos are divided into thirds by size; each third is ranked together with all normal frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scores.limit import Limit
from .frame_level import LabelledScores
from .results import SizeMetrics

NAMES = ("small", "medium", "large")
FPR = 0.1  # share of normal frames with an alarm at which recall is measured


def size_metrics(
    videos: Sequence[LabelledScores],
    areas: Sequence[NDArray[np.float64] | None],
    *,
    threshold: float | Limit | None = None,
) -> tuple[SizeMetrics, ...]:
    """Measure the thirds of the abnormal frames.

    The limits are the terciles of the sizes. A frame of a limit's size belongs to the smaller
    third, so a third may be empty if many sizes are equal; it is left out then.

    Args:
        videos:
            Scores and labels; frames of padding are left out.
        areas:
            (n,) of each video: share of abnormal pixels of each frame that it has, from 0 to 1.
            None where a video has no masks. Abnormal frames without masks, or without an abnormal
            pixel, are in no third; normal frames always count.
        threshold:
            Raw score; recall is the share of frames above it.

    Returns:
        One row a third, the smallest first; () if no abnormal frame has a size, or no frame is
        normal.
    """
    score = np.concatenate([video.score[video.real] for video in videos])
    label = np.concatenate([video.label[video.real] for video in videos]).astype(bool)
    area = np.concatenate(
        [
            np.zeros(len(video.score[video.real])) if own is None else own
            for video, own in zip(videos, areas, strict=True)
        ]
    )
    sized = label & (area > 0)
    normal = np.sort(score[~label])
    if not sized.any() or not len(normal):
        return ()
    high = None if threshold is None else _limits(videos, threshold)
    limits = np.quantile(area[sized], [0.0, 1 / 3, 2 / 3, 1.0])
    third = np.searchsorted(limits[1:3], area, side="left")
    # The largest score that at most a tenth of the normal frames exceed.
    alarm = normal[len(normal) - int(FPR * len(normal)) - 1]
    rows = []
    for number, name in enumerate(NAMES):
        chosen = sized & (third == number)
        if not chosen.any():
            continue
        own = score[chosen]
        rows.append(
            SizeMetrics(
                name=name,
                smallest=float(area[chosen].min()),
                largest=float(area[chosen].max()),
                n_frames=int(chosen.sum()),
                micro_auc=_area(own, normal),
                recall_at_fpr=float((own > alarm).mean()),
                fpr=FPR,
                recall=None if high is None else float((own > high[chosen]).mean()),
            )
        )
    return tuple(rows)


def _limits(videos: Sequence[LabelledScores], threshold: float | Limit) -> NDArray[np.float64]:
    """The threshold of each frame of all videos, without padding."""
    limit = threshold if isinstance(threshold, Limit) else Limit(threshold)
    return np.concatenate(
        [np.full(len(video.score[video.real]), limit.of(video.video_id)) for video in videos]
    )


def _area(abnormal: NDArray[np.floating[Any]], normal: NDArray[np.floating[Any]]) -> float:
    """ROC area of scores against sorted normal ones: the share of pairs in the right order."""
    below, up_to = (np.searchsorted(normal, abnormal, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(normal)))
