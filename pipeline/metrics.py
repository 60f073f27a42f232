"""Frame-level metrics: rows of scores to frames, micro and macro AUC, AP, score gap.

Everything here is arithmetic on arrays: no files, no data sets. Conventions and their sources are
in docs/evaluation.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

Padding = Literal["extreme", "literal"]

ROC_POINTS = 1000  # enough for a drawn curve, see `thin_curve`


class MetricsError(ValueError):
    """Scores or labels that cannot be measured; the message names the video."""


def expand_to_frames(
    frame_start: ArrayLike, frame_stop: ArrayLike, score: ArrayLike, start: int, stop: int
) -> NDArray[np.float64]:
    """Give every frame of [start, stop) the mean score of the windows that cover it.

    Windows may overlap, leave gaps and reach over the borders, in any order. A frame that no window
    covers takes the score of the nearest covered frame (of the earlier one where two are equally
    near). A frame under exactly one window gets its score bit by bit, so that ties stay ties.

    Args:
        frame_start:
            (n,) first frame of each window.
        frame_stop:
            (n,) one past the last frame of each window.
        score:
            (n,) score of each window.
        start:
            First frame wanted.
        stop:
            One past the last frame wanted.

    Returns:
        (stop - start,) float64.

    Raises:
        MetricsError: lengths differ, a window is empty, a score is not finite, or no window touches
            the range.
    """
    first = np.asarray(frame_start, dtype=np.int64)
    last = np.asarray(frame_stop, dtype=np.int64)
    values = np.asarray(score, dtype=np.float64)
    if not first.shape == last.shape == values.shape or values.ndim != 1:
        raise MetricsError(
            f"frame_start {first.shape}, frame_stop {last.shape} and score {values.shape} have to "
            "be vectors of one length"
        )
    if not np.isfinite(values).all():
        raise MetricsError("scores are not finite")
    if (first >= last).any():
        raise MetricsError("a window is empty: frame_stop has to be behind frame_start")
    if start >= stop:
        raise MetricsError(f"the frame range [{start}, {stop}) is empty")

    touching = (last > start) & (first < stop)
    if not touching.any():
        raise MetricsError(f"no score covers a frame of [{start}, {stop})")
    values = values[touching]
    begin = np.maximum(first[touching], start) - start  # (m,)
    end = np.minimum(last[touching], stop) - start  # (m,)
    frames = stop - start

    def covering_sum(weights: NDArray[Any]) -> NDArray[Any]:
        """Sum of the weights of the windows over each frame, by differences at their borders."""
        steps = np.zeros(frames + 1, dtype=weights.dtype)
        np.add.at(steps, begin, weights)
        np.subtract.at(steps, end, weights)
        return np.cumsum(steps[:-1])

    count = covering_sum(np.ones(len(values), dtype=np.int64))  # (frames,)
    # Sums of floats leave rounding behind; sums of row numbers do not. Where one window covers a
    # frame, the sum of numbers is that window's number.
    row = covering_sum(np.arange(len(values)))
    result = values[np.where(count == 1, row, 0)]
    if count.max() > 1:
        many = count > 1
        mean = covering_sum(values)[many] / count[many]
        result[many] = np.clip(mean, values.min(), values.max())  # rounding leads out of no range

    covered = np.flatnonzero(count)
    bare = np.flatnonzero(count == 0)
    if len(bare):
        place = np.searchsorted(covered, bare)
        before = covered[np.maximum(place - 1, 0)]
        behind = covered[np.minimum(place, len(covered) - 1)]
        earlier = np.abs(bare - before) <= np.abs(behind - bare)
        result[bare] = result[np.where(earlier, before, behind)]
    return result


@dataclass(frozen=True)
class LabelledScores:
    """One video to be measured, frame by frame.

    Attributes:
        video_id: as in the manifest.
        score: (n,) float, higher = more anomalous, comparable across videos.
        label: (n,) 0 or 1.
    """

    video_id: str
    score: NDArray[np.floating[Any]]
    label: NDArray[Any]

    def __post_init__(self) -> None:
        if self.score.ndim != 1 or self.score.shape != self.label.shape:
            raise MetricsError(
                f"{self.video_id}: scores {self.score.shape} and labels {self.label.shape} have to "
                "be vectors of one length"
            )
        if not len(self.score):
            raise MetricsError(f"{self.video_id}: no frames")
        if not np.isfinite(self.score).all():
            raise MetricsError(f"{self.video_id}: scores are not finite")
        if not np.isin(self.label, (0, 1)).all():
            raise MetricsError(f"{self.video_id}: labels have to be 0 or 1")


class _Measured(BaseModel):
    # Extra keys are ignored: `evaluate` may keep further facts in the same file.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class VideoMetrics(_Measured):
    """One video.

    Attributes:
        video_id: as in the manifest.
        n_frames: frames measured.
        n_abnormal: frames labelled abnormal.
        auc: None where all frames have one label.
        auc_padded: with a normal frame of the lowest and an abnormal one of the highest score.
    """

    video_id: str
    n_frames: int
    n_abnormal: int
    auc: float | None
    auc_padded: float


class RocCurve(_Measured):
    """Points of the micro ROC curve from (0, 0) to (1, 1), thinned for drawing."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]


class FrameMetrics(_Measured):
    """Frame-level metrics of a data set; None where a number is undefined, see `undefined`.

    Attributes:
        n_videos: videos measured.
        n_frames: frames measured.
        n_abnormal: frames labelled abnormal.
        micro_auc: area under one ROC curve over the frames of all videos.
        macro_auc_padded: mean of the padded AUC of every video, as most papers report it; one-class
            videos add a free 1.
        macro_auc_valid: mean AUC of the videos that have both classes.
        n_valid: number of those videos.
        average_precision: sum of precision times steps of recall, over the frames of all videos.
        pr_auc: trapezoids under the precision-recall points, over the frames of all videos; not the
            same number as average_precision.
        score_gap: mean score of abnormal frames minus that of normal ones, in units of the score.
        padding: "extreme" or "literal", see `frame_metrics`.
        undefined: name of a metric that is None -> why.
        roc: None where micro_auc is.
        videos: one row a video, in the given order.
    """

    n_videos: int
    n_frames: int
    n_abnormal: int
    micro_auc: float | None
    macro_auc_padded: float
    macro_auc_valid: float | None
    n_valid: int
    average_precision: float | None
    pr_auc: float | None
    score_gap: float | None
    padding: Padding
    undefined: Mapping[str, str]
    roc: RocCurve | None
    videos: tuple[VideoMetrics, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: what `metrics.json` holds at its top level."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FrameMetrics:
        """Read what `to_json` gave; further keys are ignored.

        Raises:
            MetricsError: a value is missing or is not what it should be.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise MetricsError(
                f"these are not the metrics that evaluate writes (run it again): {error}"
            ) from error


def frame_metrics(
    videos: Sequence[LabelledScores], *, padding: Padding = "extreme"
) -> FrameMetrics:
    """Measure frame scores against frame labels.

    Args:
        videos:
            At least one, ids unique.
        padding:
            What the padded macro AUC adds to every video. The literature's code prepends (label 0,
            score 0) and appends (label 1, score 1), which presumes scores in [0, 1]. "extreme" does
            the same while all scores lie in [0, 1], else it pads below the lowest and above the
            highest score of all videos; "literal" always pads with 0 and 1.

    Raises:
        MetricsError: no videos, or an id is used twice.
    """
    if not videos:
        raise MetricsError("there are no labelled scores to measure")
    twice = [k for k, n in Counter(video.video_id for video in videos).items() if n > 1]
    if twice:
        raise MetricsError(f"videos are given twice: {', '.join(sorted(twice)[:10])}")
    score = np.concatenate([video.score for video in videos]).astype(np.float64)
    label = np.concatenate([video.label for video in videos]).astype(bool)
    low, high = 0.0, 1.0
    if padding == "extreme" and not (score.min() >= 0.0 and score.max() <= 1.0):
        # Only the order counts; the size of the step keeps it one at any magnitude.
        low = float(score.min() - 1.0 - abs(score.min()))
        high = float(score.max() + 1.0 + abs(score.max()))

    rows = tuple(_measure_video(video, low, high) for video in videos)
    valid = [row.auc for row in rows if row.auc is not None]
    undefined = {}
    if not valid:
        undefined["macro_auc_valid"] = "no video has both normal and abnormal frames"
    micro = average_precision = pr_auc = gap = roc = None
    if label.all() or not label.any():
        reason = f"all {len(label)} frames are {'abnormal' if label.all() else 'normal'}"
        for name in ("micro_auc", "average_precision", "pr_auc", "score_gap"):
            undefined[name] = reason
    else:
        from sklearn.metrics import (  # here, as it takes seconds to import
            auc,
            average_precision_score,
            precision_recall_curve,
            roc_curve,
        )

        fpr, tpr, _ = roc_curve(label, score)
        micro = float(auc(fpr, tpr))
        fpr, tpr = thin_curve(fpr, tpr, ROC_POINTS)
        roc = RocCurve(fpr=tuple(fpr.tolist()), tpr=tuple(tpr.tolist()))
        precision, recall, _ = precision_recall_curve(label, score)
        pr_auc = float(auc(recall, precision))
        average_precision = float(average_precision_score(label, score))
        gap = float(score[label].mean() - score[~label].mean())
    return FrameMetrics(
        n_videos=len(rows),
        n_frames=len(label),
        n_abnormal=int(label.sum()),
        micro_auc=micro,
        macro_auc_padded=float(np.mean([row.auc_padded for row in rows])),
        macro_auc_valid=float(np.mean(valid)) if valid else None,
        n_valid=len(valid),
        average_precision=average_precision,
        pr_auc=pr_auc,
        score_gap=gap,
        padding=padding,
        undefined=undefined,
        roc=roc,
        videos=rows,
    )


def thin_curve(
    x: NDArray[np.float64], y: NDArray[np.float64], limit: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keep at most `limit` points of a curve in the unit square that never falls in x or y.

    Points are kept at even steps of x + y, so that steep and flat stretches keep theirs. The curve
    through the kept points stays within 2 / (limit - 1) of the full one in x + y.

    Args:
        x:
            (n,) ascending from 0 to 1.
        y:
            (n,) ascending from 0 to 1.
        limit:
            At least 2.
    """
    if len(x) <= limit:
        return x, y
    along = x + y
    wanted = np.linspace(along[0], along[-1], limit)
    kept = np.unique(np.searchsorted(along, wanted).clip(max=len(x) - 1))
    kept[-1] = len(x) - 1
    return x[kept], y[kept]


def _measure_video(video: LabelledScores, low: float, high: float) -> VideoMetrics:
    label = video.label.astype(bool)
    score = video.score.astype(np.float64)
    abnormal = int(label.sum())
    padded = _auc(np.concatenate([[False], label, [True]]), np.concatenate([[low], score, [high]]))
    return VideoMetrics(
        video_id=video.video_id,
        n_frames=len(label),
        n_abnormal=abnormal,
        auc=_auc(label, score) if 0 < abnormal < len(label) else None,
        auc_padded=padded,
    )


def _auc(label: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    from sklearn.metrics import auc, roc_curve

    fpr, tpr, _ = roc_curve(label, score)
    return float(auc(fpr, tpr))
