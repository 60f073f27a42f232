"""Evaluate stage: score folders and the manifest's labels -> frame-level metrics."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data_manifests.intervals import frame_labels
from ..data_manifests.record import Manifest, VideoRecord
from ..extractors.clips import SEGMENTS, segment_frames
from .metrics.event_level import events_against
from .metrics.frame_level import LabelledScores, frame_metrics, micro_auc
from .metrics.places import OWN_TRACKS, Places, RegionChoice
from .metrics.results import Alignment, FrameMetrics, Spread
from .metrics.sizes import size_metrics
from .scores.columns import SCORE
from .scores.folder import ScoreFolder
from .scores.frames import MetricsError, expand_to_frames
from .scores.smoothed import measured_threshold, smoothing_of
from .scores.smoothing import Smoothing, smooth_rows
from .store.failures import Failure

Align = Literal["auto", "exact", "pad16"]
PadLabel = Literal["last", "normal"]
Normalise = Literal["none", "video"]

SNIPPET = 16  # frames
REPLICATES = 1000  # of the bootstrap
SPREAD_OF = ("micro_auc", "average_precision")  # what is compared between runs

# Label of the frames that pad a video to whole snippets, as in the reference ground truth of the
# weakly supervised methods; "normal" where a data set is not named.
PAD_LABELS: Mapping[str, PadLabel] = {"shanghaitech": "last"}


@dataclass(frozen=True)
class Evaluated:
    """The metrics, and which videos they leave out.

    Attributes:
        metrics: over all labelled videos that have scores.
        unlabelled: scored videos without frame labels.
        unscored: labelled videos without scores.
        column: the score column that was measured.
        normalise: "video" where the scores of each video were scaled to [0, 1] first.
        smooth: how its scores were smoothed, by this measurement or by the run that wrote them.
        scored_only: whether frames without a score of their own were left out.
        left_out: how many these were.
    """

    metrics: FrameMetrics
    unlabelled: tuple[str, ...]
    unscored: tuple[str, ...]
    column: str = SCORE
    normalise: Normalise = "none"
    smooth: str | None = None
    scored_only: bool = False
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """What metrics.json holds."""
        return {
            **self.metrics.to_json(),
            "unlabelled": list(self.unlabelled),
            "unscored": list(self.unscored),
            **({} if self.column == SCORE else {"column": self.column}),
            **({} if self.normalise == "none" else {"normalise": self.normalise}),
            **({} if self.smooth is None else {"smooth": self.smooth}),
            **({"scored_only": True, "left_out": self.left_out} if self.scored_only else {}),
        }


@dataclass(frozen=True)
class EvaluatedRuns:
    """Several score folders of the same videos, such as one a seed.

    Attributes:
        runs: folder -> its metrics, in the given order.
        spread: name of a metric -> how it varies; without those that are undefined in a run.
    """

    runs: Mapping[str, Evaluated]
    spread: Mapping[str, Spread]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values with the keys runs and spread."""
        return {
            "runs": [{"scores": name, **done.to_json()} for name, done in self.runs.items()],
            "spread": {name: asdict(values) for name, values in self.spread.items()},
        }


def evaluate_scores(
    scores: Path,
    manifest: Manifest,
    *,
    align: Align = "auto",
    replicates: int = REPLICATES,
    seed: int = 0,
    column: str = SCORE,
    smooth: Smoothing | None = None,
    regions: RegionChoice = OWN_TRACKS,
    normalise: Normalise = "none",
    scored_only: bool = False,
) -> Evaluated:
    """Put scores on frames, compare with the labels, write the metrics into the folder.

    Frames are numbered in the whole file; a record's part is cut out of both.

    Args:
        scores:
            Score folder.
        manifest:
            Labels; videos that were not scored are named, not counted.
        align:
            "exact" measures the frames that a video has. "pad16" measures 16 frames for every
            snippet of 16, as the reference code of the weakly supervised methods does. "auto" is
            "pad16" where the detector is weakly supervised and all rows are such snippets.
        replicates:
            Of the bootstrap; 0 measures no intervals.
        seed:
            Of the bootstrap.
        column:
            The score column to measure; the threshold of another one than "score" comes from the
            held-out rows, if there are any. Boxes and maps belong to "score" only.
        smooth:
            How rows are smoothed before they are put on frames, with the threshold of held-out rows
            that are smoothed in the same way. Boxes and maps stay as they are.
        regions:
            Tracks and boxes of the region metrics.
        normalise:
            "video" scales the frame scores of each video to [0, 1] (min-max; 0 where they are all
            equal) before they are ranked. These metrics are kept in a file of their own, without
            false alarms and boxes: thresholds and boxes have raw scores.
        scored_only:
            Leave out frames that no row covers, with their labels, as some papers do; else they
            take the score of the nearest covered frame. Kept in a file of its own, without boxes.

    Raises:
        MetricsError: nothing to measure, a video's length is not the one that its labels are for,
            "pad16" is asked for and rows are not snippets of 16 frames or `scored_only` is asked
            for too, or the tracks or the map that were asked for cannot be used.
        SmoothError: the scores were smoothed before, or a frame rate is not known.
        ManifestError: the tracks that were asked for cannot be read.
        ScoreFolderError: the score folder is incomplete or damaged.
    """
    places = Places(manifest, regions)
    store = ScoreFolder(scores)
    return _evaluate(store, places, align, replicates, seed, column, normalise, smooth, scored_only)


def _evaluate(
    folder: ScoreFolder,
    places: Places,
    align: Align,
    replicates: int,
    seed: int,
    column: str,
    normalise: Normalise,
    smooth: Smoothing | None,
    scored_only: bool,
) -> Evaluated:
    videos = {row["video_id"]: row for row in folder.videos()}
    smoothing = smoothing_of(folder, column, smooth)
    weak = (folder.run().get("model") or {}).get("supervision") == "weak"
    measured, unscored = _labelled_rows(folder, videos, places.manifest, column, smooth)
    pad_label = PAD_LABELS.get(places.manifest.dataset, "normal")
    faults = _snippet_faults(measured, align, scored_only)
    scale = _scaled if normalise == "video" else list
    kept = [rows.covered() if scored_only else slice(None) for rows in measured]
    exact = scale([rows.exact(own) for rows, own in zip(measured, kept, strict=True)])
    no_padding = faults or scored_only
    padded = None if no_padding else scale([rows.padded(pad_label) for rows in measured])
    used = exact if padded is None or align == "exact" or (align == "auto" and not weak) else padded
    # Thresholds are of raw scores.
    threshold = measured_threshold(folder, column, smooth) if normalise == "none" else None
    metrics = frame_metrics(
        used,
        threshold=threshold,
        replicates=replicates,
        seed=seed,
        alignment=Alignment(
            used="exact" if used is exact else "pad16",
            asked=align,
            rows=_kind_of_rows(measured, snippets=not faults),
            pad_label=pad_label,
            exact_micro_auc=micro_auc(exact),
            pad16_micro_auc=None if padded is None else micro_auc(padded),
        ),
    )
    rows_of = [videos[rows.record.video_id] for rows in measured]
    areas, undefined = places.areas(rows_of)
    areas = [a if a is None else a[own] for a, own in zip(areas, kept, strict=True)]
    found: dict[str, Any] = {"sizes": size_metrics(exact, areas, threshold=threshold)}
    called = kept_as(column, normalise, scored_only)
    if called == SCORE:  # boxes and maps belong to it, and to all frames
        found["regions"], why = places.regions(folder, rows_of)
        undefined |= {} if why is None else {"regions": why}
    if called == column and smooth is None and threshold is not None:
        labels = [rows.anomalies() for rows in measured]
        found["events"], why = events_against(folder, column, rows_of, labels)
        undefined |= {} if why is None else {"events": why}
    found["undefined"] = {**metrics.undefined, **undefined}
    metrics = metrics.model_copy(update=found)
    labelled = {rows.record.video_id for rows in measured}
    unlabelled = tuple(video_id for video_id in videos if video_id not in labelled)
    left_out = sum(rows.stop - rows.start for rows in measured) - metrics.n_frames
    done = Evaluated(
        *(metrics, unlabelled, unscored, column, normalise, smoothing, scored_only, left_out)
    )
    folder.write_metrics(done.to_json(), called)
    return done


def _snippet_faults(measured: Sequence[_Rows], align: Align, scored_only: bool) -> list[str]:
    """Why videos do not have rows that "pad16" is for."""
    faults = [fault for rows in measured if (fault := rows.snippet_fault()) is not None]
    if align != "pad16":
        return faults
    if faults:
        raise MetricsError(
            f"pad16 is for scores of {SNIPPET}-frame snippets that cover a video, but {faults[0]} "
            f"({len(faults)} of {len(measured)} videos are like that): use --align exact"
        )
    if scored_only:
        raise MetricsError("pad16 adds frames after the ends of videos: leave out scored-only")
    return faults


def kept_as(column: str, normalise: Normalise, scored_only: bool) -> str:
    """The name that the metrics of a column are kept under, by how they are measured."""
    how = [normalise] * (normalise != "none") + ["scored"] * scored_only
    return "@".join([column, "+".join(how)]) if how else column


def _scaled(videos: Sequence[LabelledScores]) -> list[LabelledScores]:
    """The frame scores of each video, scaled to [0, 1]."""
    scaled = []
    for video in videos:
        low, high = float(video.score.min()), float(video.score.max())
        scaled.append(replace(video, score=(video.score - low) / (high - low or 1.0)))
    return scaled


def _labelled_rows(
    folder: ScoreFolder,
    videos: Mapping[str, Mapping[str, Any]],
    manifest: Manifest,
    column: str,
    smooth: Smoothing | None,
) -> tuple[list[_Rows], tuple[str, ...]]:
    """The scores of all labelled videos, and the ids of labelled videos without scores."""
    measured: list[_Rows] = []
    unscored: list[str] = []
    wrong: list[str] = []
    for record in manifest.records:
        if record.anomalies is None:
            continue
        if record.video_id not in videos:
            unscored.append(record.video_id)
            continue
        video = videos[record.video_id]
        n = video["n_frames"]
        needed = max([stop for _, stop in record.anomalies], default=0)
        if needed > n or record.expected_frames not in (None, n):
            expected = record.expected_frames or f"at least {needed}"
            wrong.append(f"{record.video_id} (labels for {expected} frames, decoded {n})")
            continue
        measured.append(_read_rows(folder, record, video, column, smooth))
    if wrong:
        raise MetricsError("labels and footage differ in length: " + "; ".join(wrong))
    if not measured:
        raise MetricsError("no scored video has frame labels in this manifest")
    return measured, tuple(unscored)


def evaluate_if_labelled(out: Path, manifest: Manifest) -> tuple[Evaluated | None, list[Failure]]:
    """Metrics of a score folder where the manifest has frame labels, and what stood against them.

    Args:
        out:
            Score folder.
        manifest:
            Labels, if it has any.
    """
    if all(record.anomalies is None for record in manifest.records):
        return None, []
    try:
        return evaluate_scores(out, manifest), []
    except MetricsError as error:
        return None, [Failure("*", "evaluate", "MetricsError", str(error))]


def evaluate_runs(
    folders: Sequence[Path],
    manifest: Manifest,
    *,
    align: Align = "auto",
    replicates: int = REPLICATES,
    seed: int = 0,
    column: str = SCORE,
    smooth: Smoothing | None = None,
    regions: RegionChoice = OWN_TRACKS,
    normalise: Normalise = "none",
    scored_only: bool = False,
) -> EvaluatedRuns:
    """Evaluate several score folders of the same videos; each gets its own metrics.json.

    Args:
        folders:
            Score folders, such as one for every seed of a training.
        manifest:
            As in `evaluate_scores`.
        align:
            As in `evaluate_scores`.
        replicates:
            As in `evaluate_scores`.
        seed:
            As in `evaluate_scores`.
        column:
            As in `evaluate_scores`.
        smooth:
            As in `evaluate_scores`.
        regions:
            As in `evaluate_scores`.
        normalise:
            As in `evaluate_scores`.
        scored_only:
            As in `evaluate_scores`.

    Raises:
        ManifestError: as in `evaluate_scores`.
        MetricsError: as in `evaluate_scores`; or a folder is given twice, is about other videos
            than the first, or was aligned or smoothed in another way: their mean has no meaning.
        ScoreFolderError: a score folder is incomplete or damaged.
    """
    if len({os.path.realpath(folder) for folder in folders}) < len(folders):
        raise MetricsError("a score folder is given twice: every run counts once")
    runs: dict[str, Evaluated] = {}
    places = Places(manifest, regions)  # masks and tracks are read once
    for folder in folders:
        done = _evaluate(
            *(ScoreFolder(folder), places, align, replicates, seed),
            *(column, normalise, smooth, scored_only),
        )
        first = next(iter(runs.values()), done)
        if _measured(done) != _measured(first):
            raise MetricsError(
                f"{folder} is about other videos or frames than {folders[0]}: score the same videos"
            )
        ours, theirs = done.metrics.alignment, first.metrics.alignment
        if ours and theirs and ours.used != theirs.used:
            raise MetricsError(
                f"{folder} is measured with {ours.used}, {folders[0]} with {theirs.used}: choose "
                "one with --align"
            )
        if done.smooth != first.smooth:
            raise MetricsError(
                f"{folder} is smoothed by {done.smooth or 'nothing'}, {folders[0]} by "
                f"{first.smooth or 'nothing'}: smooth all in the same way"
            )
        runs[str(folder)] = done
    spread = {}
    for name in SPREAD_OF:
        values = [getattr(done.metrics, name) for done in runs.values()]
        if len(values) > 1 and None not in values:
            std = float(np.std(values, ddof=1))
            spread[name] = Spread(float(np.mean(values)), std, min(values), max(values))
    return EvaluatedRuns(runs, spread)


@dataclass(frozen=True)
class _Rows:
    """The scores of one video in order of time, and the frames that they are measured on."""

    record: VideoRecord
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    score: NDArray[np.float64]
    n_frames: int
    start: int
    stop: int

    def labels(self) -> NDArray[np.uint8]:
        """One label for each frame of [start, stop)."""
        return frame_labels(self.record.anomalies or (), self.n_frames)[self.start : self.stop]

    def anomalies(self) -> tuple[Sequence[tuple[int, int]], tuple[int, int]]:
        """The labelled anomalies, and [start, stop)."""
        return self.record.anomalies or (), (self.start, self.stop)

    def covered(self) -> NDArray[np.bool_]:
        """Which frames of [start, stop) some row covers."""
        n = self.stop - self.start
        change = np.zeros(n + 1, np.int64)
        np.add.at(change, np.clip(self.first - self.start, 0, n), 1)
        np.add.at(change, np.clip(self.last - self.start, 0, n), -1)
        return np.cumsum(change[:n]) > 0

    def exact(self, kept: NDArray[np.bool_] | slice) -> LabelledScores:
        """The frames that the video has, or some of them."""
        try:
            expanded = expand_to_frames(self.first, self.last, self.score, self.start, self.stop)
        except MetricsError as error:
            raise MetricsError(f"{self.record.video_id}: {error}") from error
        label = self.labels()[kept]
        return LabelledScores(self.record.video_id, expanded[kept], label, self.record.category)

    def snippet_fault(self) -> str | None:
        """Why the rows are not the snippets [16 i, 16 i + 16) of the video; the last may end with
        it. None where they are."""
        begin = SNIPPET * np.arange(len(self.first))
        video_id = self.record.video_id
        if self.start != 0:
            return f"{video_id} is measured from frame {self.start} on"
        off = np.flatnonzero(
            (self.first != begin)
            | (np.minimum(self.last, self.stop) != np.minimum(begin + SNIPPET, self.stop))
            | (self.last > begin + SNIPPET)
        )
        if len(off):
            row = int(off[0])
            return f"row {row} of {video_id} is [{self.first[row]}, {self.last[row]})"
        if len(begin) != math.ceil(self.stop / SNIPPET):
            return f"the {len(begin)} rows of {video_id} do not end with its {self.stop} frames"
        return None

    def padded(self, pad_label: PadLabel) -> LabelledScores:
        """16 frames for every snippet."""
        labels = self.labels()
        n_padding = SNIPPET * len(self.first) - len(labels)
        tail = labels[-1] if pad_label == "last" else 0
        return LabelledScores(
            self.record.video_id,
            self.score.repeat(SNIPPET),
            np.append(labels, np.full(n_padding, tail, dtype=labels.dtype)),
            self.record.category,
            n_padding,
        )

    def are_segments(self) -> bool:
        """Whether the rows divide the video, or its snippets, into 32 (integers cut off)."""
        if len(self.first) != SEGMENTS or self.start != 0:
            return False
        for unit in (1, SNIPPET):
            starts, stops = segment_frames(math.ceil(self.stop / unit))
            if np.array_equal(self.first, unit * starts) and np.array_equal(
                np.minimum(self.last, self.stop), np.minimum(unit * stops, self.stop)
            ):
                return True
        return False


def _kind_of_rows(measured: Sequence[_Rows], *, snippets: bool) -> str:
    if snippets:
        return f"snippets of {SNIPPET} frames"
    if all(rows.are_segments() for rows in measured):
        return f"{SEGMENTS} segments a video"
    return "rows of the detector"


def _read_rows(
    folder: ScoreFolder,
    record: VideoRecord,
    video: Mapping[str, Any],
    column: str,
    smooth: Smoothing | None,
) -> _Rows:
    part = folder.scores(record.video_id, column)
    first, last = part["frame_start"].to_numpy(), part["frame_stop"].to_numpy()
    score = part[column].to_numpy()
    if smooth is not None:
        score = smooth_rows(first, last, score, video["fps"], smooth)
    order = np.argsort(first, kind="stable")
    return _Rows(
        record=record,
        first=first[order],
        last=last[order],
        score=score[order],
        n_frames=video["n_frames"],
        start=video["frame_start"],
        stop=video["frame_stop"],
    )


def _measured(done: Evaluated) -> list[tuple[str, int, int]]:
    return [(v.video_id, v.n_frames, v.n_abnormal) for v in done.metrics.videos]
