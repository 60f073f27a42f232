"""Frame-level metrics: micro and macro AUC, AP, categories, false alarms, intervals.

Everything here is arithmetic on arrays: no files, no data sets. Conventions and their sources are
in docs/evaluation.md; `results` holds what comes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..scores.frames import MetricsError
from ..scores.limit import Limit
from .label_digest import digest_of_labels, joined_digest
from .latency import latency_aware_ap, onset_weights
from .results import (
    Alignment,
    Bootstrap,
    CategoryMetrics,
    FalseAlarms,
    FrameMetrics,
    Padding,
    RocCurve,
    VideoMetrics,
)

ROC_POINTS = 1000  # enough for a drawn curve, see `thin_curve`
CURVE_NAMES = ("micro_auc", "average_precision", "pr_auc", "latency_aware_ap", "score_gap")
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


def frame_metrics(
    videos: Sequence[LabelledScores],
    *,
    padding: Padding = "extreme",
    threshold: float | Limit | None = None,
    replicates: int = 0,
    seed: int = 0,
    alignment: Alignment | None = None,
) -> FrameMetrics:
    """Measure frame scores against frame labels.

    Args:
        videos:
            At least one, ids unique.
        padding:
            What the padded macro AUC adds to every video. The code of the literature prepends
            (label 0, score 0) and appends (label 1, score 1), which is right for scores in [0, 1].
            "extreme" does the same while all scores lie in [0, 1]; else it pads below the lowest
            and above the highest score of all videos. "literal" always pads with 0 and 1.
        threshold:
            Raw score at which false alarms are counted, maybe with the rule that it comes from.
        replicates:
            Of the bootstrap; 0 computes no intervals.
        seed:
            Of the bootstrap.
        alignment:
            Kept in the result, for the reader.

    Raises:
        MetricsError: no videos, or an id is used twice.
    """
    _check_ids(videos)
    score = np.concatenate([video.score for video in videos]).astype(np.float64)
    label = np.concatenate([video.label for video in videos]).astype(bool)
    low, high = _padding_scores(score, padding)
    rows = tuple(_measure_video(video, low, high) for video in videos)
    valid = [row.auc for row in rows if row.auc is not None]
    undefined = {}
    if not valid:
        undefined["macro_auc_valid"] = "no video has both normal and abnormal frames"
    curves = _Curves()
    if label.all() or not label.any():
        reason = f"all {len(label)} frames are {'abnormal' if label.all() else 'normal'}"
        undefined |= dict.fromkeys(CURVE_NAMES, reason)
    else:
        weight = onset_weights([video.label for video in videos])
        curves = _measure_curves(label, score, weight)

    counts = VideoCounts(videos)
    of_abnormal, why = _abnormal_videos_auc(counts)
    undefined |= {} if why is None else {"abnormal_videos_auc": why}
    bootstrap = None
    if replicates:
        bootstrap, why = _bootstrap(counts, replicates, seed, undefined.get("micro_auc"))
        undefined |= {} if why is None else {"bootstrap": why}
    n_abnormal = sum(row.n_abnormal for row in rows)
    n_padding = sum(row.n_padding for row in rows)
    return FrameMetrics(
        n_videos=len(rows),
        n_frames=len(label) - n_padding,
        n_abnormal=n_abnormal,
        n_padding=n_padding,
        n_padding_abnormal=int(label.sum()) - n_abnormal,
        micro_auc=curves.micro_auc,
        macro_auc_padded=float(np.mean([row.auc_padded for row in rows])),
        macro_auc_valid=float(np.mean(valid)) if valid else None,
        n_valid=len(valid),
        average_precision=curves.average_precision,
        pr_auc=curves.pr_auc,
        latency_aware_ap=curves.latency_aware_ap,
        score_gap=curves.score_gap,
        abnormal_videos_auc=of_abnormal,
        categories=_measure_categories(videos, counts),
        false_alarms=None if threshold is None else _false_alarms(videos, threshold),
        bootstrap=bootstrap,
        alignment=alignment,
        padding=padding,
        undefined=undefined,
        roc=curves.roc,
        labels_sha256=joined_digest((row.video_id, row.labels_sha256 or "") for row in rows),
        videos=rows,
    )


def _abnormal_videos_auc(counts: VideoCounts) -> tuple[float | None, str | None]:
    """Micro AUC over the videos that have abnormal frames, or why there is none."""
    abnormal = counts.n_abnormal > 0  # (videos,)
    area = _or_none(counts.areas(abnormal[:, None])[0][0])
    if area is not None:
        return area, None
    if abnormal.any():
        return None, "the videos with abnormal frames have no normal frames"
    return None, "no video has abnormal frames"


def _check_ids(videos: Sequence[LabelledScores]) -> None:
    if not videos:
        raise MetricsError("there are no labelled scores to measure")
    twice = [k for k, n in Counter(video.video_id for video in videos).items() if n > 1]
    if twice:
        raise MetricsError(f"videos are given twice: {', '.join(sorted(twice)[:10])}")


def _padding_scores(score: NDArray[np.float64], padding: Padding) -> tuple[float, float]:
    """The scores of the normal and of the abnormal frame that the padded AUC adds to a video."""
    if padding == "literal" or (score.min() >= 0.0 and score.max() <= 1.0):
        return 0.0, 1.0
    # Only the order counts. A step as large as the scores keeps the order at any magnitude.
    return (
        float(score.min() - 1.0 - abs(score.min())),
        float(score.max() + 1.0 + abs(score.max())),
    )


@dataclass(frozen=True)
class _Curves:
    """The numbers of `FrameMetrics` that need frames of both classes."""

    micro_auc: float | None = None
    average_precision: float | None = None
    pr_auc: float | None = None
    latency_aware_ap: float | None = None
    score_gap: float | None = None
    roc: RocCurve | None = None


def _measure_curves(
    label: NDArray[np.bool_], score: NDArray[np.float64], weight: NDArray[np.float64]
) -> _Curves:
    from sklearn.metrics import (  # here, as it takes seconds to import
        auc,
        average_precision_score,
        precision_recall_curve,
        roc_curve,
    )

    fpr, tpr, _ = roc_curve(label, score)
    micro = float(auc(fpr, tpr))
    fpr, tpr = thin_curve(fpr, tpr, ROC_POINTS)
    precision, recall, _ = precision_recall_curve(label, score)
    return _Curves(
        micro_auc=micro,
        average_precision=float(average_precision_score(label, score)),
        pr_auc=float(auc(recall, precision)),
        latency_aware_ap=latency_aware_ap(score, label, weight),
        score_gap=float(score[label].mean() - score[~label].mean()),
        roc=RocCurve(fpr=tuple(fpr.tolist()), tpr=tuple(tpr.tolist())),
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
    kept = thin_points(x + y, limit)
    return x[kept], y[kept]


def thin_points(along: NDArray[np.float64], limit: int) -> NDArray[np.int64]:
    """Which points of a curve to keep: at even steps of a measure that never falls along it.

    Args:
        along:
            (n,) ascending.
        limit:
            Most points, at least 2.

    Returns:
        Places of the kept points, ascending; the first and the last are among them.
    """
    if len(along) <= limit:
        return np.arange(len(along))
    wanted = np.linspace(along[0], along[-1], limit)
    kept = np.unique(np.searchsorted(along, wanted).clip(max=len(along) - 1))
    kept[-1] = len(along) - 1
    return kept


class VideoCounts:
    """The frames of each video, counted so that any choice of videos is ranked without a sort.

    Only the scores of abnormal frames matter: the order of normal frames between two of them
    changes neither the ROC area nor average precision. So the normal frames of a video are counted
    in the intervals between these scores. A choice of videos is a sum of columns.

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
    """Sums of each row and all after it."""
    return np.cumsum(rows[::-1], axis=0)[::-1]


def _or_none(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _bootstrap(
    counts: VideoCounts, replicates: int, seed: int, one_class: str | None
) -> tuple[Bootstrap | None, str | None]:
    """The intervals, or why there are none; `one_class` says why there is no micro AUC."""
    if one_class is not None:
        return None, one_class
    rng = np.random.default_rng(seed)
    times = np.zeros((len(counts.n_abnormal), replicates), dtype=np.int64)
    abnormal = np.flatnonzero(counts.n_abnormal)
    normal = np.flatnonzero(counts.n_abnormal == 0)
    if max(len(abnormal), len(normal)) < 2:
        return None, "too few videos to draw from"
    for kind in (abnormal, normal):
        if len(kind):
            even = np.full(len(kind), 1.0 / len(kind))
            times[kind] = rng.multinomial(len(kind), even, size=replicates).T
    auc, precision = counts.areas(times)
    undefined = int(np.isnan(auc).sum())
    if undefined == replicates:
        return None, f"none of {replicates} replicates has frames of both classes"
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]

    def interval(values: NDArray[np.float64]) -> tuple[float, float]:
        low, high = np.quantile(values[~np.isnan(values)], ends)
        return float(low), float(high)

    bootstrap = Bootstrap(
        replicates=replicates,
        n_undefined=undefined,
        seed=seed,
        level=LEVEL,
        n_abnormal_videos=len(abnormal),
        n_normal_videos=len(normal),
        micro_auc=interval(auc),
        average_precision=interval(precision),
    )
    return bootstrap, None


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


def _false_alarms(videos: Sequence[LabelledScores], threshold: float | Limit) -> FalseAlarms:
    limit = threshold if isinstance(threshold, Limit) else Limit(threshold)
    alarms, frames, of_videos, in_videos, normal_videos = 0, 0, 0, 0, 0
    for video in videos:
        normal = ~video.label[video.real].astype(bool)
        found = int((video.score[video.real][normal] > limit.of(video.video_id)).sum())
        alarms, frames = alarms + found, frames + int(normal.sum())
        if not video.label.any():
            normal_videos += 1
            of_videos, in_videos = of_videos + found, in_videos + len(normal)
    return FalseAlarms(
        threshold=limit.value,
        rule=limit.rule,
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
        labels_sha256=digest_of_labels(label[video.real]),
    )


def _auc(label: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    from sklearn.metrics import auc, roc_curve

    fpr, tpr, _ = roc_curve(label, score)
    return float(auc(fpr, tpr))
