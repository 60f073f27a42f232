"""RunConfig: a whole run from one TOML file and `--set key=value`; an unknown key is an error."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from ...data_manifests.choices import choices
from ...data_manifests.settings import Settings
from ...data_manifests.stored import DamagedFile, read_toml
from ...extractors.base import PrecisionRequest
from ...extractors.footage.identity import HashMode
from ...extractors.footage.limits import CorruptPolicy
from ..engine.settings import Engine, ProbeOptions
from ..evaluate import kept_as
from ..scores.columns import SCORE
from ..scores.events import EventConfig
from ..scores.map_detections import QUANTILE
from ..scores.smoothing import Smoothing
from ..store.most_missing import MOST_MISSING
from .default_cache import default_cache
from .key_value import ConfigError, parse_settings

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # of a section: part of file names


class ManifestSection(Settings):
    """Which videos: a manifest file, or a data set to build it from."""

    file: Path | None = None
    dataset: str | None = None
    root: Path | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_way(self) -> ManifestSection:
        if (self.file is None) == (self.dataset is None or self.root is None):
            raise ValueError("give either file = ..., or dataset = ... and root = ...")
        return self


class ExtractSection(Settings):
    """One feature set: an extractor, `NAME` or `NAME:PRESET`, and what differs from it.

    Attributes:
        name: what other sections call it; None takes the extractor's name without the preset.
        extractor: the name.
        source: `from` in the file: name of a section before this one, or a feature set of the
            cache, whose pixels it reads; several make one feature set each. Without it, footage is
            read.
        split: of the videos that it is made of; None takes that of its source, or all videos.
        set: config values.
        weights: of its network; a table slot -> weights where it has several.
        precision: of its networks.
    """

    name: str | None = Field(default=None, pattern=NAME)
    extractor: str
    source: tuple[str, ...] = Field(default=(), alias="from")
    split: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    weights: str | dict[str, str] | None = None
    precision: PrecisionRequest = "auto"

    @field_validator("source", mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @property
    def label(self) -> str:
        """The name."""
        return self.name or self.extractor.partition(":")[0]

    def feature_sets(self) -> dict[str, str | None]:
        """Name of each feature set that the section makes -> what it reads; None is footage."""
        if len(self.source) < 2:
            return {self.label: self.source[0] if self.source else None}
        return {f"{self.label}-{source}": source for source in self.source}


class TrainSection(Settings):
    """One detector; with several seeds, shots or a grid, one training for each.

    Attributes:
        name: what other sections call it; None takes the detector's name.
        detector: the registry name.
        set: config values.
        weights: that its network starts from; a table slot -> weights where it has several.
        features: role -> the name of an `[[extract]]` section, or a feature set of the cache.
        seeds: one training each; None takes the seed of the run.
        grid: config key -> values; one training for each combination.
        holdout: share of the normal videos that give the threshold; None takes the default.
        init: what it starts from: the name of a `[[train]]` section before this one, or a model of
            the cache, by its folder or the beginning of its name. Of a section with several seeds
            it is the training with the same seed.
        split: of the videos that it learns from.
        shots: numbers of videos that it learns from, the first of that split; one training for
            each. None: all.
        max_missing: share of the training videos that may be left out because they cannot be read
            or have no features; no part of the key.
        events: how its scores become events; None takes those of `[score]`.
        verdicts_of: keys of models whose verdicts its review page goes on with, the first one
            first; noted with a model that is trained now, and no part of its key.
    """

    name: str | None = Field(default=None, pattern=NAME)
    detector: str
    set: dict[str, Any] = Field(default_factory=dict)
    weights: str | dict[str, str] | None = None
    features: dict[str, str] = Field(default_factory=dict)
    seeds: tuple[NonNegativeInt, ...] | None = Field(default=None, min_length=1)
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    holdout: float | None = Field(default=None, ge=0, le=0.9)
    init: str | None = None
    split: str = "train"
    shots: tuple[PositiveInt, ...] | None = Field(default=None, min_length=1)
    max_missing: float = Field(default=MOST_MISSING, ge=0, le=1)
    events: EventConfig | None = None
    verdicts_of: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name."""
        return self.name or self.detector

    @field_validator("shots", mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _cells(self) -> TrainSection:
        if empty := [key for key, values in self.grid.items() if not values]:
            raise ValueError(f"grid: no values for {', '.join(empty)}")
        if both := sorted(set(self.grid) & set(self.set)):
            raise ValueError(f"{', '.join(both)} stands in set and in grid: write it once")
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed stands there twice")
        if self.shots is not None and len(set(self.shots)) < len(self.shots):
            raise ValueError("shots: a number stands there twice")
        return self


class ModelSection(Settings):
    """A model that is there already, and is only scored with.

    Attributes:
        name: what other sections call its scores.
        model: its folder, or the beginning of its name in the cache.
        events: how its scores become events; None takes those of `[score]`.
    """

    name: str = Field(pattern=NAME)
    model: str
    events: EventConfig | None = None


class FuseSection(Settings):
    """Several scored trainings fused into one.

    Attributes:
        name: what the result is called.
        scores: name of a training (or of a fusion before this one) -> weight.
        method: "sum" adds weighted quantiles, "max" takes the largest.
        columns: name -> which of its score columns is used; "score" where it is not named.
    """

    name: str = Field(pattern=NAME)
    scores: dict[str, float] = Field(min_length=1)
    method: Literal["sum", "max"] = "sum"
    columns: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_columns(self) -> FuseSection:
        for name in self.columns:
            if name not in self.scores:
                known = choices(self.scores, name)
                raise ValueError(f"columns: {name!r} is not fused here; these are: {known}")
        return self


class ScoreSection(Settings):
    """What to score, and how scores become events.

    Attributes:
        split: of the manifest.
        events: how scores become events.
        smooth: how scores are smoothed over time, as "gaussian:0.5s" or "median:9"; None: not.
    """

    split: str = "test"
    events: EventConfig = EventConfig()
    smooth: Smoothing | None = None


class FurtherMeasure(Settings):
    """What else is measured of each score folder, see `evaluate_scores`.

    Attributes:
        column: the score column.
        normalise: "video" scales the scores of each video to [0, 1] first.
        scored_only: leave out frames without a score of their own.
    """

    column: str = SCORE
    normalise: Literal["none", "video"] = "none"
    scored_only: bool = False

    @model_validator(mode="after")
    def _is_another(self) -> FurtherMeasure:
        if self.called == SCORE:
            raise ValueError(f"column {SCORE!r} is measured anyway: name another way to measure it")
        return self

    @property
    def called(self) -> str:
        """What its metrics are called in files and tables."""
        return kept_as(self.column, self.normalise, self.scored_only)


class EvaluateSection(Settings):
    """How scores are compared with labels, see `evaluate_scores`.

    Attributes:
        align: which frames are measured.
        bootstrap: samples of videos for the intervals; 0: none.
        tracks: CSV or folder of labelled tracks; None takes those that the manifest names.
        map: a score map that the boxes are made from; None takes boxes of the detector, or its
            first map.
        map_quantile: cells of the map above this quantile of its values become boxes.
        smooth: how scores that were not smoothed when they were made are smoothed; None: not.
        also: what else is measured; `micro_auc@NAME`, `macro_auc_padded@NAME`,
            `macro_auc_valid@NAME`, `average_precision@NAME` and `score_gap@NAME` of the results.
    """

    align: Literal["auto", "exact", "pad16"] = "auto"
    bootstrap: int = Field(default=1000, ge=0, le=100_000)
    tracks: Path | None = None
    map: str | None = None
    map_quantile: float = Field(default=QUANTILE, ge=0, le=1)
    smooth: Smoothing | None = None
    also: tuple[FurtherMeasure, ...] = ()


class ReportSection(Settings):
    """Which pages are written.

    Attributes:
        scores: names of trainings or fusions; None writes a page for each.
        folder: write the review page too, `review` in the score folder.
        scene_checks: name of a training or model of `tampering`, whose events the review pages show
            beside the others.
        notes: what the review pages say about the footage, a sentence each.
    """

    scores: tuple[str, ...] | None = None
    folder: bool = False
    scene_checks: str | None = None
    notes: tuple[str, ...] = ()


class RunConfig(Settings):
    """A whole run, as `vadpipe run` reads it.

    Attributes:
        out: folder of the results.
        cache: root of the cache; None is the default one.
        manifest: which videos.
        extract: the feature sets.
        train: the trainings; a single table is a list of one.
        model: models that are there already.
        fuse: fusions, in an order in which each uses only those before it.
        score: what to score.
        evaluate: how it is measured.
        report: which pages are written.
        seed: of every training that names no seeds.
        engine: where and how everything runs.
        on_corrupt: what to do with clips that have damaged frames.
        max_bytes: refuse to extract more than this.
        hash_mode: how files are identified.
        image_fps: nominal rate of image folders.
    """

    out: Path
    cache: Path | None = None
    manifest: ManifestSection
    extract: tuple[ExtractSection, ...] = ()
    train: tuple[TrainSection, ...] = ()
    model: tuple[ModelSection, ...] = ()
    fuse: tuple[FuseSection, ...] = ()
    score: ScoreSection = ScoreSection()
    evaluate: EvaluateSection = EvaluateSection()
    report: ReportSection = ReportSection()
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    engine: Engine = Engine()
    on_corrupt: CorruptPolicy = "keep"
    max_bytes: int | None = Field(default=None, ge=0)
    hash_mode: HashMode = "sampled"
    image_fps: float = Field(default=25.0, gt=0)

    @field_validator("train", "extract", "fuse", "model", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _names(self) -> RunConfig:
        if not (self.extract or self.train or self.model):
            raise ValueError("there is nothing to do: name an [[extract]], [[train]] or [[model]]")
        scored = [s.label for s in self.train] + [s.name for s in self.model]
        scored += [s.name for s in self.fuse]
        for kind, labels in (
            ("[[extract]]", [name for section in self.extract for name in section.feature_sets()]),
            ("[[train]], [[model]] or [[fuse]]", scored),
        ):
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(f"several sections {kind} are called {', '.join(twice)}: set name")
        return self

    @model_validator(mode="after")
    def _learns_from_others(self) -> RunConfig:
        for section in self.train:
            if section.split == self.score.split != "train":
                raise ValueError(
                    f"train {section.label}: split {section.split!r} is scored, and its numbers "
                    "would say nothing: learn from another split, or score another"
                )
        return self

    @model_validator(mode="after")
    def _sources_have_the_videos(self) -> RunConfig:
        splits = self.splits()
        for section in self.extract:
            for name, source in section.feature_sets().items():
                limit = splits.get(source or "")
                if limit is not None and section.split not in (None, limit):
                    raise ValueError(
                        f"extract {name}: split {section.split!r}, but {source} has the videos of "
                        f"split {limit!r} only"
                    )
        return self

    def splits(self) -> dict[str, str | None]:
        """Name of each feature set -> the split of its videos; None are all videos."""
        found: dict[str, str | None] = {}
        for section in self.extract:
            for name, source in section.feature_sets().items():
                found[name] = section.split or found.get(source or "")
        return found

    @property
    def cache_root(self) -> Path:
        """The cache, absolute: workers have other working directories."""
        return (self.cache or default_cache()).absolute()

    @property
    def probing(self) -> ProbeOptions:
        """How files are opened."""
        options = ProbeOptions(hash_mode=self.hash_mode, image_fps=self.image_fps)
        return self.engine.probing(options)


def load_run(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a run file; relative paths in it are relative to its own folder.

    Args:
        path:
            TOML file.
        overrides:
            `section.key=value` strings; values are TOML, bare words are strings.

    Raises:
        ConfigError: the file is no TOML, or an override makes no sense.
        pydantic.ValidationError: a key is unknown or a value is wrong.
    """
    try:
        values = read_toml(path)
    except DamagedFile as error:
        raise ConfigError(str(error)) from error
    for key, value in parse_settings(overrides).items():
        *sections, last = key.split(".")
        at: Any = values
        for section in sections:
            at = _section(at, section, key)
        if isinstance(at, list) and len(at) == 1:
            (at,) = at
        if not isinstance(at, dict):
            raise ConfigError(f"--set {key}: {last} is no section with keys; name one of several")
        at[last] = value
    run = RunConfig.model_validate(values)
    base = Path(os.path.realpath(path)).parent
    videos, tracks = run.manifest, run.evaluate.tracks
    return run.model_copy(
        update={
            "out": base / run.out,
            "cache": None if run.cache is None else base / run.cache,
            "manifest": videos.model_copy(
                update={
                    "file": None if videos.file is None else base / videos.file,
                    "root": None if videos.root is None else base / videos.root,
                }
            ),
            "evaluate": run.evaluate.model_copy(
                update={"tracks": None if tracks is None else base / tracks}
            ),
        }
    )


def _section(at: Any, name: str, key: str) -> dict[str, Any] | list[Any]:
    """The table or the list of tables under a name; of a list, the table of that name or number.

    A list of one table stands for that table.
    """
    if isinstance(at, list):
        tables = [table for table in at if isinstance(table, dict)]
        found = [table for table in tables if _label(table) == name]
        if not found and name.isdecimal() and int(name) < len(tables):
            found = [tables[int(name)]]
        if len(found) > 1:
            raise ConfigError(f"--set {key}: several sections are called {name}: use a number")
        if found:
            return found[0]
        if len(tables) != 1:
            raise ConfigError(f"--set {key}: {name} is no section with keys")
        at = tables[0]
    inner = at.setdefault(name, {})
    if not isinstance(inner, dict | list):
        raise ConfigError(f"--set {key}: {name} is no section with keys")
    return inner


def _label(table: dict[str, Any]) -> str:
    """What other sections call a table."""
    own = table.get("name") or table.get("detector") or table.get("extractor") or ""
    return own if table.get("name") else str(own).partition(":")[0]
