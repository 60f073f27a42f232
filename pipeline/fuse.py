"""Fuse stage: score folders of the same footage -> one score folder that combines them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..data_manifests.errors import VadpipeError
from ..detectors.base import Scores
from .engine.progress import progress_bar, tell
from .scores.columns import SCORE, doubts_of
from .scores.events import Calibration, EventConfig, EventThresholds
from .scores.folder import SCORE_VERSION, ScoreFolder, ScoreFolderError
from .scores.frames import MetricsError
from .scores.held_out import HeldOut, HeldOutError
from .scores.joined import ScoreRows, join_rows
from .scores.kept import own_and_other_parts
from .scores.part import whole_id_of
from .scores.quantiles import QuantileMap
from .scores.rules import thresholds_of
from .scores.summary import as_it_is, made_by, write_summary
from .store.failures import Failure, describe_failure
from .store.keys import canonical_json, key_of

Method = Literal["sum", "max"]

DETECTOR = "fusion"  # stands where other score folders name their detector
MOST_PADDING = 10_000  # frames after the end of a video, of a row that was padded
QUANTILE = "quantile/"  # prefix of the column with a part's own quantiles

# What tells that two folders are about the same frames of the same footage.
_SAME = ("content_id", "n_frames", "fps", "frame_start", "frame_stop")
_OF_MODEL = ("folder", "detector", "detector_version", "key", "supervision", "trained_on")


class FuseError(VadpipeError, ValueError):
    """Score folders that cannot be fused; the message says what to do."""


@dataclass
class Fused:
    """What a fusion did.

    Attributes:
        out: the score folder.
        videos: video ids with scores, those of earlier fusions too.
        kept: those of them that some part lacks now.
        events: found in all.
        failures: videos that could not be fused.
        warnings: why the threshold deserves little trust, or is missing.
    """

    out: Path
    videos: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    events: int = 0
    failures: list[Failure] = field(default_factory=list)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part:
    """One of the score folders: how its scores become quantiles, and which videos it has."""

    name: str
    folder: ScoreFolder
    column: str
    weight: float
    run: Mapping[str, Any]
    held_out: HeldOut
    quantile: QuantileMap
    videos: Mapping[str, Mapping[str, Any]]
    failures: Mapping[str, str]

    @property
    def model(self) -> dict[str, Any]:
        model = self.run.get("model") or {}
        return {name: model[name] for name in _OF_MODEL if name in model}

    def rows(self, video_id: str) -> ScoreRows:
        """The quantiles of a video.

        Raises:
            FuseError: its scores lack the column, are not finite, or go on after its end.
            ScoreFolderError: they are missing or damaged.
        """
        table = self.folder.scores(video_id)
        if self.column not in table.column_names:
            raise FuseError(
                f"{self.folder.path} has no column {self.column!r} for {video_id}: run score again"
            )
        scores, stops = table[self.column].to_numpy(), table["frame_stop"].to_numpy()
        if not np.isfinite(scores).all():  # as a quantile it would be the largest
            raise FuseError(
                f"{self.folder.path}: {self.column!r} of {video_id} is not finite: delete the "
                "scores of this video and run score again"
            )
        # Fusing takes memory for each frame.
        n_frames = self.videos[video_id]["n_frames"]
        if int(stops.max()) > n_frames + MOST_PADDING:
            raise FuseError(
                f"{self.folder.path}: {video_id} has {n_frames} frames, and scores up to frame "
                f"{stops.max()}: delete the scores of this video and run score again"
            )
        return ScoreRows(table["frame_start"].to_numpy(), stops, self.quantile(scores))

    def held_out_rows(self, video_id: str) -> ScoreRows:
        """The quantiles of a held-out video."""
        held_out = self.held_out.of_video(video_id)
        return ScoreRows(
            held_out.table["frame_start"].to_numpy(),
            held_out.table["frame_stop"].to_numpy(),
            self.quantile(held_out.values(self.column)),
        )


def fuse_scores(
    scores: Sequence[Path],
    out: Path,
    *,
    weights: Mapping[str, float] | None = None,
    method: Method = "sum",
    columns: Mapping[str, str] | None = None,
    events: EventConfig | None = None,
    command: str = "",
) -> Fused:
    """Combine the scores of several detectors for the same footage.

    Each score is mapped to its quantile among the held-out normal scores of its own model, rows are
    brought to common ones, and the quantiles are combined: weighted mean or maximum. The same is
    done with the held-out rows of the videos that all models held out; their combined scores give
    the threshold. `out` is a score folder like any other. Its column "score" is the combination,
    and `quantile/<part>` is what each part contributes.

    A part is called by the last name of its folder. Their order changes nothing.

    Args:
        scores:
            Score folders, written by score or fuse.
        out:
            Score folder to write: a new one, or an earlier fusion.
        weights:
            Part -> weight in the mean; 1 where it is not named.
        method:
            "sum" is the weighted mean of the quantiles, "max" their maximum, without weights.
        columns:
            Part -> which of its score columns is used; "score" where it is not named.
        events:
            How scores become events.
        command:
            Noted in run.json.

    Raises:
        FuseError: folders, names, weights or columns that make no sense, a folder without held-out
            rows, or no video that can be fused.
        ScoreFolderError: a score folder is incomplete or damaged, or `out` is in use.
        HeldOutError: held-out rows are damaged.
        CannotWrite: the disk is full or read-only.
    """
    config = events or EventConfig()
    parts = _open_parts(scores, out, weights or {}, method, columns or {})
    folder = ScoreFolder(out)
    _check_target(folder)
    key = key_of(_recipe(parts, method))
    held_out, calibration, facts, warnings = _calibrate(parts, method)
    thresholds = None if calibration is None else thresholds_of(config, calibration, held_out)
    stated = _threshold_json(thresholds, config, facts, warnings)
    done = Fused(out, warnings=tuple(stated["warnings"]))
    with folder.locked() as problem:
        if problem is not None:
            tell(problem)
        videos = _common_videos(parts, done)
        folder.remove_metrics()
        fused = _Fusion(parts, method, key, folder, done).write(videos)
        if not fused:
            reasons = "; ".join(f"{f.video_id}: {f.message}" for f in done.failures[:5])
            raise FuseError(f"no video could be fused: {reasons}")
        earlier, _ = own_and_other_parts(folder, videos, key)
        rows = [(row["video_id"], partial(as_it_is, row)) for row in (*fused, *earlier)]
        names = ["score", *(f"{QUANTILE}{part.name}" for part in parts)]
        found = write_summary(folder, DETECTOR, names, rows, thresholds, config, stage="fuse")
        done.videos, done.events = found.videos, found.events
        done.failures += found.failures
        done.kept = [row["video_id"] for row in earlier if row["video_id"] in found.videos]
        folder.write_held_out(held_out)
        folder.write_failures(done.failures)
        folder.write_run(
            {
                **_of_all(parts),
                "videos": len(done.videos),
                "failures": len(done.failures),
                "model": {
                    "detector": DETECTOR,
                    "key": key,
                    "supervision": _one_of(part.model.get("supervision") for part in parts),
                },
                "fusion": {"method": method, "parts": {p.name: _describe(p) for p in parts}},
                "threshold": stated,
                "events": config.model_dump(mode="json"),
                **made_by(("vadpipe", "numpy"), command),
            }
        )
    return done


# ------------------------------------------------------------------------------- parts


def _open_parts(
    scores: Sequence[Path],
    out: Path,
    weights: Mapping[str, float],
    method: str,
    columns: Mapping[str, str],
) -> list[_Part]:
    """The parts, by name: their order on the command line decides nothing."""
    if method not in get_args(Method):
        raise FuseError(f"method {method!r} is none of: {', '.join(get_args(Method))}")
    if method == "max" and weights:
        raise FuseError("weights are for the method sum: the maximum has none")
    if not scores:
        raise FuseError("there is no score folder to fuse")
    folders: dict[str, Path] = {}
    for path in scores:
        name = Path(os.path.realpath(path)).name
        if name in folders:
            raise FuseError(
                f"{folders[name]} and {path} are both called {name!r}: rename one of the folders"
            )
        folders[name] = path
    if os.path.realpath(out) in {os.path.realpath(path) for path in scores}:
        raise FuseError(f"{out} is one of the parts: write to another folder")
    for what, named in (("weight", weights), ("column", columns)):
        if unknown := sorted(set(named) - set(folders)):
            raise FuseError(
                f"a {what} is given for {', '.join(unknown)}; the parts are: {', '.join(folders)}"
            )
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise FuseError(
                f"the weight of {name} is {weight}: it has to be above 0 (or leave the part out)"
            )
    return [
        _open_part(name, folders[name], columns.get(name, "score"), weights.get(name, 1.0))
        for name in sorted(folders)
    ]


def _open_part(name: str, path: Path, column: str, weight: float) -> _Part:
    folder = ScoreFolder(path)
    run, held_out = folder.run(), folder.held_out()
    if held_out is None:
        model = (run.get("model") or {}).get("folder", "MODEL")
        raise FuseError(
            f"{path} has no held-out rows to calibrate on: run vadpipe score with {model} again. "
            "If it was trained with version 0.1, run vadpipe train with --force before"
        )
    try:
        quantile = QuantileMap(held_out.values(column))
    except HeldOutError as error:
        raise FuseError(f"{path}: {error}") from error
    return _Part(
        name=name,
        folder=folder,
        column=column,
        weight=weight,
        run=run,
        held_out=held_out,
        quantile=quantile,
        videos={row["video_id"]: row for row in folder.videos()},
        failures={row["video_id"]: row["message"] for row in folder.failures()},
    )


def _check_target(folder: ScoreFolder) -> None:
    """Refuse to write over the scores of a model."""
    if folder.run_file.is_file() and "fusion" not in folder.run():
        raise FuseError(f"{folder.path} holds the scores of a model: write to another folder")


def _common_videos(parts: Sequence[_Part], done: Fused) -> list[str]:
    """Videos that all parts have, in the order of the first part; the others become failures."""
    every = dict.fromkeys(video_id for part in parts for video_id in part.videos)
    every |= dict.fromkeys(video_id for part in parts for video_id in part.failures)
    common = []
    for video_id in every:
        lacking = [part for part in parts if video_id not in part.videos]
        if lacking:
            reasons = [
                f"{part.folder.path} has no scores of it"
                + (f" ({part.failures[video_id]})" if video_id in part.failures else "")
                for part in lacking
            ]
            error = FuseError(f"{'; '.join(reasons)}: run vadpipe score there again")
            done.failures.append(describe_failure(video_id, "fuse", error))
        else:
            common.append(video_id)
    return common


# ------------------------------------------------------------------------------- scores


def _combine(joined: ScoreRows, parts: Sequence[_Part], method: str) -> Scores:
    """The combined score of each common row, and the quantiles that it is made of."""
    quantiles = joined.score  # (n, parts)
    combined: NDArray[np.float64]
    if method == "max":
        combined = quantiles.max(axis=1)
    else:
        weights = np.array([part.weight for part in parts])
        combined = (quantiles * weights).sum(axis=1) / weights.sum()
    columns = {f"{QUANTILE}{part.name}": quantiles[:, i] for i, part in enumerate(parts)}
    return Scores(joined.frame_start, joined.frame_stop, {"score": combined, **columns})


@dataclass
class _Fusion:
    """Writes the combined scores video by video; one that fails costs only itself."""

    parts: Sequence[_Part]
    method: str
    key: str
    folder: ScoreFolder
    done: Fused

    def write(self, videos: Sequence[str]) -> list[Mapping[str, Any]]:
        """Write the parts; returns the rows of the videos that were fused."""
        rows = []
        with progress_bar("fuse", len(videos)) as advance:
            for video_id in videos:
                advance(1)
                try:
                    rows.append(self._fuse(video_id))
                except (FuseError, MetricsError, ScoreFolderError) as error:
                    self.done.failures.append(describe_failure(video_id, "fuse", error))
        return rows

    def _fuse(self, video_id: str) -> Mapping[str, Any]:
        first, *others = (part.videos[video_id] for part in self.parts)
        for part, other in zip(self.parts[1:], others, strict=True):
            if differing := [name for name in _SAME if first[name] != other[name]]:
                raise FuseError(
                    f"{part.folder.path} is about other footage than {self.parts[0].folder.path}: "
                    f"{', '.join(differing)} differ. Score the same files"
                )
        wholes = {whole_id_of(part.folder.notes(video_id)) for part in self.parts} - {""}
        if len(wholes) > 1:  # files of one size may share their samples
            raise FuseError(
                f"{first['path']} was another file when other parts were scored: run score again "
                "for all of them"
            )
        scores = _combine(
            join_rows([part.rows(video_id) for part in self.parts]), self.parts, self.method
        )
        flags = sorted({flag for row in (first, *others) for flag in row["flags"] or ()})
        row = {**first, "flags": flags}
        stamp = canonical_json(
            {
                "score_version": SCORE_VERSION,
                "model": self.key,
                "content_id": first["content_id"],
                "part": [first["frame_start"], first["frame_stop"]],
            }
        )
        noted = row | {"whole_id": next(iter(wholes), "")}
        self.folder.write_scores(video_id, scores, stamp, noted)
        return row


# ------------------------------------------------------------------------------- calibration


def _calibrate(
    parts: Sequence[_Part], method: str
) -> tuple[HeldOut | None, Calibration | None, dict[str, Any], list[str]]:
    """The combined held-out rows, their quantiles, what they are, and why to trust them little."""
    common = sorted(set.intersection(*(set(part.held_out.videos) for part in parts)))
    counts = {part.name: len(part.held_out.videos) for part in parts}
    facts: dict[str, Any] = {"held_out_videos": counts, "common_videos": common}
    warnings = []
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    if not common:
        warnings.append(
            f"the parts held out different videos ({listed}), none of them in all parts: there is "
            "no threshold and no event. Train them with the same --holdout and --seed"
        )
        return None, None, {**facts, "n_rows": 0, "n_videos": 0, "method": "none"}, warnings
    if len(common) < max(counts.values()):
        warnings.append(
            f"it rests on the {len(common)} normal videos that all parts held out (of {listed})"
        )
    scores = [
        _combine(join_rows([part.held_out_rows(video) for part in parts]), parts, method)
        for video in common
    ]
    calibration = Calibration.from_scores(
        [each.columns["score"] for each in scores],
        method="the same combination of the held-out rows of all parts",
        warnings=[f"{part.name}: {doubt}" for part in parts for doubt in doubts_of(part.run)],
    )
    facts |= {k: getattr(calibration, k) for k in ("n_rows", "n_videos", "method")}
    facts["warnings"] = list(calibration.warnings)
    return HeldOut.from_scores(common, scores, _rates(parts, common)), calibration, facts, warnings


def _rates(parts: Sequence[_Part], common: Sequence[str]) -> dict[str, float] | None:
    """Frame rates of the held-out videos, if a part knows them all."""
    known = (part.held_out.fps for part in parts)
    return next((fps for fps in known if fps.keys() >= set(common)), None)


def _threshold_json(
    thresholds: EventThresholds | None,
    config: EventConfig,
    facts: Mapping[str, Any],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The `threshold` entry of run.json, without values where there is no calibration."""
    values = (
        {"rule": config.rule_in_words(), "high": None, "low": None, "warnings": []}
        | {"quantile": config.quantile, "release_quantile": config.release_quantile}
        if thresholds is None
        else thresholds.to_json()
    )
    return {**values, "warnings": [*warnings, *values["warnings"]], "calibration": dict(facts)}


# ------------------------------------------------------------------------------- run.json


def _recipe(parts: Sequence[_Part], method: str) -> dict[str, Any]:
    """What decides the combined scores, but for the footage."""
    return {
        "fusion": method,
        "parts": {
            part.name: {
                "model": part.model.get("key"),
                "column": part.column,
                "weight": part.weight,
                **_smooth(part),
            }
            for part in parts
        },
    }


def _describe(part: _Part) -> dict[str, Any]:
    return {
        "scores": str(part.folder.path),
        "column": part.column,
        "weight": part.weight,
        **_smooth(part),
        "model": part.model,
        "calibration": (part.run.get("threshold") or {}).get("calibration"),
    }


def _smooth(part: _Part) -> dict[str, Any]:
    """How the scores of a part were smoothed; empty where they were not."""
    text = part.folder.smoothing() if part.column == SCORE else None
    return {} if text is None else {"smooth": text}


def _of_all(parts: Sequence[_Part]) -> dict[str, Any]:
    """What the runs of all parts agree on; None where they do not."""
    names = ("dataset", "manifest_digest")
    return {name: _one_of(part.run.get(name) for part in parts) or "" for name in names}


def _one_of(values: Any) -> Any:
    """The value that all are; None where they differ."""
    found = list(values)
    return found[0] if all(value == found[0] for value in found) else None
