"""Frame-level metrics: rows of scores to frames, micro and macro AUC, AP, categories, intervals.

Everything here is arithmetic on arrays: no files, no data sets. Conventions and their sources are
in docs/evaluation.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy import sparse

from ..scores.frames import MetricsError

Padding = Literal["extreme", "literal"]

ROC_POINTS = 1000  # enough for a drawn curve, see `thin_curve`
LEVEL = 0.95  # of the bootstrap intervals
CELLS = 2_000_000  # numbers in memory at once while many rankings are measured


@dataclass(frozen=True)
class LabelledScores:
    """One video to be measured, frame by frame.

    Attributes:
        video_id: as in the manifest.
        score: (n,) float, higher = more anomalous, comparable across videos.
        label: (n,) 0 or 1.
        category: the data set's own class of anomaly; several are joined with "+".
        n_padding: how many of the n frames, at the end, the video does not have (see
            docs/evaluation.md, pad16). They are ranked, and counted apart.
    """

    video_id: str
    score: NDArray[np.floating[Any]]
    label: NDArray[Any]
    category: str | None = None
    n_padding: int = 0

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
        if not 0 <= self.n_padding < len(self.score):
            raise MetricsError(
                f"{self.video_id}: {self.n_padding} of {len(self.score)} frames cannot be padding"
            )

    @property
    def real(self) -> slice:
        """The frames that the video has."""
        return slice(len(self.score) - self.n_padding)


class _Measured(BaseModel):
    # Extra keys are ignored: `evaluate` may keep further facts in the same file.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class VideoMetrics(_Measured):
    """One video.

    Attributes:
        video_id: as in the manifest.
        n_frames: frames that the video has.
        n_abnormal: those labelled abnormal.
        n_padding: frames that were measured beside them.
        auc: None where all frames have one label.
        auc_padded: with a normal frame of the lowest and an abnormal one of the highest score.
        category: the data set's own class of anomaly.
    """

    video_id: str
    n_frames: int
    n_abnormal: int
    n_padding: int = 0
    auc: float | None
    auc_padded: float
    category: str | None = None


class CategoryMetrics(_Measured):
    """The abnormal videos of one category, ranked together with all normal videos.

    Attributes:
        category: its name in the manifest.
        n_videos: videos of the category that have abnormal frames.
        n_frames: frames that these videos have.
        n_abnormal: those labelled abnormal.
        micro_auc: over the frames of these and of all normal videos; None where all have one label.
        average_precision: likewise.
    """

    category: str
    n_videos: int
    n_frames: int
    n_abnormal: int
    micro_auc: float | None
    average_precision: float | None


class FalseAlarms(_Measured):
    """How much of what is normal lies above a threshold; padding is not counted.

    Attributes:
        threshold: raw score; "above" is strict.
        n_videos: normal videos.
        n_frames_of_videos: their frames.
        n_frames: normal frames of all videos.
        rate_of_videos: share of the frames of normal videos; None where there are none.
        rate: share of all normal frames; None where there are none.
    """

    threshold: float
    n_videos: int
    n_frames_of_videos: int
    n_frames: int
    rate_of_videos: float | None
    rate: float | None


class Bootstrap(_Measured):
    """Percentile intervals from videos drawn again and again, with replacement.

    As many videos with abnormal frames, and as many without, are drawn as there are: every
    replicate has both kinds.

    Attributes:
        replicates: drawings.
        n_undefined: how many of them had frames of one class only, and were left out.
        seed: of the drawings.
        level: share of the replicates inside an interval.
        n_abnormal_videos: videos with abnormal frames.
        n_normal_videos: videos without.
        micro_auc: lower and upper end.
        average_precision: lower and upper end.
    """

    replicates: int
    n_undefined: int
    seed: int
    level: float
    n_abnormal_videos: int
    n_normal_videos: int
    micro_auc: tuple[float, float]
    average_precision: tuple[float, float]


class Alignment(_Measured):
    """How rows of scores were put on frames, see docs/evaluation.md.

    Attributes:
        used: "exact" cuts to the frames that a video has; "pad16" repeats the score of every
            snippet 16 times and pads the labels.
        asked: what was asked for.
        rows: what the rows are, in words.
        pad_label: what "pad16" gives the frames behind the end: the "last" label or "normal".
        exact_micro_auc: of "exact"; None where it is undefined.
        pad16_micro_auc: of "pad16"; None where it is undefined or the rows are no snippets.
    """

    used: Literal["exact", "pad16"]
    asked: Literal["auto", "exact", "pad16"]
    rows: str
    pad_label: Literal["last", "normal"]
    exact_micro_auc: float | None
    pad16_micro_auc: float | None


class RocCurve(_Measured):
    """Points of the micro ROC curve from (0, 0) to (1, 1), thinned for drawing."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]


class FrameMetrics(_Measured):
    """Frame-level metrics of a data set; None where a number is undefined, see `undefined`.

    Attributes:
        n_videos: videos measured.
        n_frames: frames that these videos have.
        n_abnormal: those labelled abnormal.
        n_padding: frames that were measured beside them.
        n_padding_abnormal: those labelled abnormal.
        micro_auc: area under one ROC curve over the frames of all videos.
        macro_auc_padded: mean of the padded AUC of every video, as most papers report it; one-class
            videos add a free 1.
        macro_auc_valid: mean AUC of the videos that have both classes.
        n_valid: number of those videos.
        average_precision: sum of precision times steps of recall, over the frames of all videos.
        pr_auc: trapezoids under the precision-recall points, over the frames of all videos; not the
            same number as average_precision.
        score_gap: mean score of abnormal frames minus that of normal ones, in units of the score.
        abnormal_videos_auc: like micro_auc, over the videos that have abnormal frames.
        categories: in order of their names; () where the manifest has none.
        false_alarms: None where no threshold is known.
        bootstrap: None where none was asked for.
        alignment: None where the caller put the scores on frames.
        padding: "extreme" or "literal", see `frame_metrics`.
        undefined: name of a metric that is None -> why.
        roc: None where micro_auc is.
        videos: one row a video, in the given order.
    """

    n_videos: int
    n_frames: int
    n_abnormal: int
    n_padding: int = 0
    n_padding_abnormal: int = 0
    micro_auc: float | None
    macro_auc_padded: float
    macro_auc_valid: float | None
    n_valid: int
    average_precision: float | None
    pr_auc: float | None
    score_gap: float | None
    abnormal_videos_auc: float | None = None
    categories: tuple[CategoryMetrics, ...] = ()
    false_alarms: FalseAlarms | None = None
    bootstrap: Bootstrap | None = None
    alignment: Alignment | None = None
    padding: Padding
    undefined: Mapping[str, str]
    roc: RocCurve | None
    videos: tuple[VideoMetrics, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: what `metrics.json` holds at its top level."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FrameMetrics:
        """Read what `to_json` gave, of this version or an earlier one; further keys are ignored.

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
    videos: Sequence[LabelledScores],
    *,
    padding: Padding = "extreme",
    threshold: float | None = None,
    replicates: int = 0,
    seed: int = 0,
    alignment: Alignment | None = None,
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
        threshold:
            Raw score at which false alarms are counted.
        replicates:
            Of the bootstrap; 0 gives no intervals.
        seed:
            Of the bootstrap.
        alignment:
            Kept in the result, for the reader.

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

    counts = VideoCounts(videos)
    abnormal = counts.n_abnormal > 0  # (videos,)
    of_abnormal = _or_none(counts.areas(abnormal[:, None])[0][0])
    if of_abnormal is None:
        undefined["abnormal_videos_auc"] = (
            "the videos with abnormal frames have no normal frames"
            if abnormal.any()
            else "no video has abnormal frames"
        )
    bootstrap = None
    if replicates and micro is None:
        undefined["bootstrap"] = reason
    elif replicates and max(abnormal.sum(), (~abnormal).sum()) < 2:
        undefined["bootstrap"] = "too few videos to draw from"
    elif replicates:
        bootstrap = _bootstrap(counts, replicates, seed)
        if bootstrap is None:
            undefined["bootstrap"] = f"none of {replicates} replicates has frames of both classes"
    n_abnormal = sum(row.n_abnormal for row in rows)
    n_padding = sum(row.n_padding for row in rows)
    return FrameMetrics(
        n_videos=len(rows),
        n_frames=len(label) - n_padding,
        n_abnormal=n_abnormal,
        n_padding=n_padding,
        n_padding_abnormal=int(label.sum()) - n_abnormal,
        micro_auc=micro,
        macro_auc_padded=float(np.mean([row.auc_padded for row in rows])),
        macro_auc_valid=float(np.mean(valid)) if valid else None,
        n_valid=len(valid),
        average_precision=average_precision,
        pr_auc=pr_auc,
        score_gap=gap,
        abnormal_videos_auc=of_abnormal,
        categories=_measure_categories(videos, counts),
        false_alarms=None if threshold is None else _false_alarms(videos, threshold),
        bootstrap=bootstrap,
        alignment=alignment,
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


class VideoCounts:
    """The frames of each video, counted so that any choice of videos is ranked without sorting.

    Only the scores of abnormal frames matter: between two of them the order of normal frames
    changes neither the ROC area nor average precision. So the normal frames of a video are counted
    in the intervals between these scores, and a choice of videos is a sum of columns.

    Args:
        videos:
            In the order of the columns.

    Attributes:
        n_abnormal: (videos,) abnormal frames.
        n_normal: (videos,) normal frames.
    """

    def __init__(self, videos: Sequence[LabelledScores]) -> None:
        score = np.concatenate([video.score for video in videos]).astype(np.float64)
        label = np.concatenate([video.label for video in videos]).astype(bool)
        column = np.repeat(np.arange(len(videos)), [len(video.score) for video in videos])
        self.n_abnormal = np.bincount(column[label], minlength=len(videos))
        self.n_normal = np.bincount(column[~label], minlength=len(videos))
        levels = np.unique(score[label])  # (p,) ascending
        row = np.searchsorted(levels, score, side="right") - 1  # the level at or below the score
        above = ~label & (row >= 0)
        tied = above.copy()
        tied[above] = levels[row[above]] == score[above]

        def count(chosen: NDArray[np.bool_]) -> sparse.csr_array:
            ones = np.ones(int(chosen.sum()))
            shape = (len(levels), len(videos))
            return sparse.coo_array((ones, (row[chosen], column[chosen])), shape=shape).tocsr()

        # (p, videos) each: abnormal frames at a level, normal frames from it up to below the next,
        # normal frames at it.
        self._abnormal, self._above, self._tied = count(label), count(above), count(tied)

    def areas(self, times: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """ROC area and average precision over the frames of some choices of videos.

        Args:
            times:
                (videos, choices) how often a video is in a choice.

        Returns:
            Micro AUC and average precision, (choices,) each; NaN where a choice lacks a class.
        """
        auc = np.full(times.shape[1], np.nan)
        precision = np.full(times.shape[1], np.nan)
        if not self.n_abnormal.any():
            return auc, precision
        step = max(1, CELLS // self._abnormal.shape[0])
        for start in range(0, times.shape[1], step):
            weight = times[:, start : start + step].astype(np.float64)
            positive, negative = self.n_abnormal @ weight, self.n_normal @ weight
            here = self._abnormal @ weight  # (p, choices)
            normal = _from_above(self._above @ weight)  # normal frames at or above each level
            both = _from_above(here) + normal
            ordered = here * (negative - normal + (self._tied @ weight) / 2)
            share = np.divide(both - normal, both, out=np.zeros_like(both), where=both > 0)
            two = (positive > 0) & (negative > 0)
            found = ordered.sum(axis=0)[two] / (positive * negative)[two]
            auc[start : start + step][two] = found
            precision[start : start + step][two] = (here * share).sum(axis=0)[two] / positive[two]
        return auc, precision


def micro_auc(videos: Sequence[LabelledScores]) -> float | None:
    """Area under one ROC curve over the frames of all videos; None where all have one label."""
    return _or_none(VideoCounts(videos).areas(np.ones((len(videos), 1)))[0][0])


def _from_above(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of each row and all behind it."""
    return np.cumsum(rows[::-1], axis=0)[::-1]


def _or_none(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _bootstrap(counts: VideoCounts, replicates: int, seed: int) -> Bootstrap | None:
    rng = np.random.default_rng(seed)
    times = np.zeros((len(counts.n_abnormal), replicates), dtype=np.int64)
    abnormal = np.flatnonzero(counts.n_abnormal)
    normal = np.flatnonzero(counts.n_abnormal == 0)
    for kind in (abnormal, normal):
        if len(kind):
            even = np.full(len(kind), 1.0 / len(kind))
            times[kind] = rng.multinomial(len(kind), even, size=replicates).T
    auc, precision = counts.areas(times)
    undefined = int(np.isnan(auc).sum())
    if undefined == replicates:
        return None
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]

    def interval(values: NDArray[np.float64]) -> tuple[float, float]:
        low, high = np.quantile(values[~np.isnan(values)], ends)
        return float(low), float(high)

    return Bootstrap(
        replicates=replicates,
        n_undefined=undefined,
        seed=seed,
        level=LEVEL,
        n_abnormal_videos=len(abnormal),
        n_normal_videos=len(normal),
        micro_auc=interval(auc),
        average_precision=interval(precision),
    )


def _measure_categories(
    videos: Sequence[LabelledScores], counts: VideoCounts
) -> tuple[CategoryMetrics, ...]:
    abnormal = counts.n_abnormal > 0
    members: dict[str, list[int]] = {}
    for i, video in enumerate(videos):
        if abnormal[i] and video.category is not None:
            for name in dict.fromkeys(video.category.split("+")):
                members.setdefault(name, []).append(i)
    names = sorted(members)
    times = np.repeat(~abnormal[:, None], len(names), axis=1)
    for column, name in enumerate(names):
        times[members[name], column] = True
    auc, precision = counts.areas(times)
    rows = []
    for column, name in enumerate(names):
        own = [videos[i] for i in members[name]]
        rows.append(
            CategoryMetrics(
                category=name,
                n_videos=len(own),
                n_frames=sum(len(video.label[video.real]) for video in own),
                n_abnormal=sum(int(video.label[video.real].sum()) for video in own),
                micro_auc=_or_none(auc[column]),
                average_precision=_or_none(precision[column]),
            )
        )
    return tuple(rows)


def _false_alarms(videos: Sequence[LabelledScores], threshold: float) -> FalseAlarms:
    alarms, frames, of_videos, in_videos, normal_videos = 0, 0, 0, 0, 0
    for video in videos:
        normal = ~video.label[video.real].astype(bool)
        found = int((video.score[video.real][normal] > threshold).sum())
        alarms, frames = alarms + found, frames + int(normal.sum())
        if not video.label.any():
            normal_videos += 1
            of_videos, in_videos = of_videos + found, in_videos + len(normal)
    return FalseAlarms(
        threshold=threshold,
        n_videos=normal_videos,
        n_frames_of_videos=in_videos,
        n_frames=frames,
        rate_of_videos=of_videos / in_videos if in_videos else None,
        rate=alarms / frames if frames else None,
    )


def _measure_video(video: LabelledScores, low: float, high: float) -> VideoMetrics:
    label = video.label.astype(bool)
    score = video.score.astype(np.float64)
    abnormal = int(label.sum())
    padded = _auc(np.concatenate([[False], label, [True]]), np.concatenate([[low], score, [high]]))
    return VideoMetrics(
        video_id=video.video_id,
        n_frames=len(label) - video.n_padding,
        n_abnormal=int(label[video.real].sum()),
        n_padding=video.n_padding,
        auc=_auc(label, score) if 0 < abnormal < len(label) else None,
        auc_padded=padded,
        category=video.category,
    )


def _auc(label: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    from sklearn.metrics import auc, roc_curve

    fpr, tpr, _ = roc_curve(label, score)
    return float(auc(fpr, tpr))
