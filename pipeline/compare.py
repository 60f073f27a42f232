"""Compare stage: score folders of the same footage -> one table of systems and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..data_manifests.errors import VadpipeError
from .metrics.results import FrameMetrics, VideoMetrics
from .scores.columns import SCORE
from .scores.folder import ScoreFolder, ScoreFolderError
from .scores.of_run import commit_of, folders_of, short_names
from .scores.same_footage import NAMED, check_same_footage
from .store.keys import folder_name

# Column of the table -> where it is in the metrics.
METRICS = {
    "micro_auc": ("micro_auc",),
    "macro_auc_padded": ("macro_auc_padded",),
    "macro_auc_valid": ("macro_auc_valid",),
    "average_precision": ("average_precision",),
    "latency_aware_ap": ("latency_aware_ap",),
    "rbdc": ("regions", "rbdc"),
    "tbdc": ("regions", "tbdc"),
    "event_precision": ("events", "precision"),
    "event_recall": ("events", "recall"),
    "event_f1": ("events", "strict_f1"),
    "false_alarms_per_hour": ("events", "false_per_hour"),
    "median_delay": ("events", "median_delay"),
}


class CompareError(VadpipeError, ValueError):
    """Systems that cannot be compared; the message says what differs and what to do."""


@dataclass(frozen=True)
class System:
    """One row: a system, its metrics, and how its scores were made.

    Attributes:
        name: of its score folder; its path where two have one name.
        scores: the folder.
        metrics: name (see `METRICS`) -> value; None where it is undefined or was not measured.
        measured: whether evaluate has measured it at all.
        detector: its name.
        seed: of its training; None where it has none.
        settings: of the detector.
        features: role -> feature set, `EXTRACTOR-KEY`.
        fused: the parts of a fusion.
        threshold: the rule of its threshold, in words; "" where there is none.
        smooth: how its scores were smoothed; None where they were not.
        version: of vadpipe.
        commit: of the folder that its run was started in; None where no run noted one.
    """

    name: str
    scores: str
    metrics: Mapping[str, float | None]
    measured: bool
    detector: str
    seed: int | None
    settings: Mapping[str, Any]
    features: Mapping[str, str]
    fused: tuple[str, ...]
    threshold: str
    smooth: str | None
    version: str
    commit: str | None


@dataclass(frozen=True)
class Comparison:
    """Systems on the same footage.

    Attributes:
        systems: in the given order.
        column: the score column that was measured.
        n_videos: videos measured.
        n_frames: frames that these have.
        n_abnormal: those labelled abnormal.
        alignment: how scores were put on frames; "" where no metrics say it.
        labels_sha256: of the labels that all were measured against; None where no metrics say it.
        without_labels: systems measured by an earlier version, which noted no digest of the labels:
            theirs are compared by numbers of frames alone.
    """

    systems: tuple[System, ...]
    column: str
    n_videos: int
    n_frames: int
    n_abnormal: int
    alignment: str
    labels_sha256: str | None
    without_labels: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values with the keys column, footage, without_labels and systems."""
        names = ("n_videos", "n_frames", "n_abnormal", "alignment", "labels_sha256")
        return {
            "column": self.column,
            "footage": {name: getattr(self, name) for name in names},
            "without_labels": list(self.without_labels),
            "systems": [asdict(system) for system in self.systems],
        }


def compare_scores(scores: Sequence[Path], *, column: str = SCORE) -> Comparison:
    """Put the metrics of several systems side by side. Nothing is measured again.

    Args:
        scores:
            Score folders, and run folders, which stand for all of their score folders.
        column:
            The score column that evaluate measured; "NAME@video" and the like name other
            measurements of it, as its file `metrics-NAME@video.json` does.

    Raises:
        CompareError: nothing was measured, or not on the same frames and labels.
        OtherFootageError: the folders are about different footage.
        ScoreFolderError: a folder is incomplete or damaged.
        MetricsError: metrics are not what evaluate writes.
    """
    folders = _named(scores)
    check_same_footage(folders)
    found = {name: _metrics_of(folder, column) for name, folder in folders.items()}
    known = {name: metrics for name, metrics in found.items() if metrics is not None}
    if not known:
        raise CompareError(
            f"column {column} of none of the folders was measured: run vadpipe evaluate for each"
        )
    _check_same_frames(known)
    first = next(iter(known.values()))
    return Comparison(
        tuple(_system(name, folder, found[name]) for name, folder in folders.items()),
        column,
        first.n_videos,
        first.n_frames,
        first.n_abnormal,
        first.alignment.used if first.alignment is not None else "",
        next((each.labels_sha256 for each in known.values() if each.labels_sha256), None),
        tuple(name for name, each in known.items() if each.labels_sha256 is None),
    )


def _named(scores: Sequence[Path]) -> dict[str, ScoreFolder]:
    """All folders by short names, or by their paths where short names come twice."""
    if not scores:
        raise CompareError("there is no score folder to compare")
    return short_names([each for path in scores for each in folders_of(path).items()])


def _metrics_of(folder: ScoreFolder, column: str) -> FrameMetrics | None:
    values = folder.metrics(column)
    return None if values is None else FrameMetrics.from_json(values)


def _check_same_frames(found: Mapping[str, FrameMetrics]) -> None:
    """Compare what was measured: videos, their frames and labels, alignment, tracks.

    Raises:
        CompareError: something differs.
    """
    _check_same_labels(found)
    (first, one), *others = found.items()
    for name, other in others:
        again = "run vadpipe evaluate for both with the same manifest and options"
        ours, theirs = (_videos(each) for each in (one, other))
        if ours.keys() != theirs.keys():
            some = ", ".join(sorted(ours.keys() ^ theirs.keys())[:NAMED])
            raise CompareError(
                f"{name} and {first} were measured on other videos ({some}): {again}"
            )
        for video_id, counts in ours.items():
            if counts != theirs[video_id]:
                raise CompareError(
                    f"{video_id} has {counts[0]} measured frames, {counts[1]} of them abnormal, in "
                    f"{first}, but {theirs[video_id][0]} and {theirs[video_id][1]} in {name}: "
                    f"{again}"
                )
        used = [each.alignment.used for each in (one, other) if each.alignment is not None]
        if len(set(used)) > 1:
            raise CompareError(f"{first} is aligned by {used[0]}, {name} by {used[1]}: {again}")
        tracks = {each.regions.tracks_sha256 for each in found.values() if each.regions is not None}
        if len(tracks) > 1:
            raise CompareError(f"RBDC and TBDC of the folders are of other tracks: {again}")


def _check_same_labels(found: Mapping[str, FrameMetrics]) -> None:
    """Compare the labels of each video, frame by frame, where both were measured with a digest.

    Raises:
        CompareError: those of a video differ, and the numbers of its frames do not say it.
    """
    known: dict[str, tuple[str, VideoMetrics]] = {}
    for name, metrics in found.items():
        for video in metrics.videos:
            if video.labels_sha256 is None:
                continue
            first, one = known.setdefault(video.video_id, (name, video))
            counts = (one.n_frames, one.n_abnormal) == (video.n_frames, video.n_abnormal)
            if counts and one.labels_sha256 != video.labels_sha256:
                raise CompareError(
                    f"{video.video_id} was measured against other labels in {name} than in "
                    f"{first}: as many frames are abnormal, but not the same. Run vadpipe evaluate "
                    "for both with the same manifest"
                )


def _videos(metrics: FrameMetrics) -> dict[str, tuple[int, int]]:
    return {video.video_id: (video.n_frames, video.n_abnormal) for video in metrics.videos}


def _system(name: str, folder: ScoreFolder, metrics: FrameMetrics | None) -> System:
    run = folder.run()
    model, threshold = run.get("model") or {}, run.get("threshold") or {}
    versions, fusion = _object(run.get("versions")), _object(run.get("fusion"))
    seed, settings = model.get("seed"), _object(model.get("config"))
    if isinstance(seed, bool) or not isinstance(seed, int | None):
        raise _not_ours(folder, "the seed is no number")
    return System(
        name=name,
        scores=str(folder.path),
        metrics={column: _value(metrics, path) for column, path in METRICS.items()},
        measured=metrics is not None,
        detector=str(model.get("detector") or ""),
        seed=seed,
        settings=settings,
        features=_features(folder, model),
        fused=tuple(map(str, _object(fusion.get("parts")))),
        threshold=str(threshold.get("rule") or "") if threshold.get("high") is not None else "",
        smooth=folder.smoothing(),
        version=str(versions.get("vadpipe") or ""),
        commit=commit_of(folder),
    )


def _value(metrics: FrameMetrics | None, path: Sequence[str]) -> float | None:
    found: Any = metrics
    for part in path:
        found = None if found is None else getattr(found, part)
    return None if found is None else float(found)


def _features(folder: ScoreFolder, model: Mapping[str, Any]) -> dict[str, str]:
    """Role -> feature set, of features and of perturbed twins."""
    recipes = _object(model.get("features")) | _object(model.get("twins"))
    try:
        return {role: folder_name(recipe["extractor"], recipe) for role, recipe in recipes.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise _not_ours(folder, "a recipe of features names no extractor") from error


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _not_ours(folder: ScoreFolder, reason: str) -> ScoreFolderError:
    return ScoreFolderError(f"{folder.run_file}: {reason}: run score again")
