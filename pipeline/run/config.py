"""RunConfig: a whole run from one TOML file and `--set key=value`; an unknown key is an error."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pooch
from pydantic import Field, model_validator

from ...data_manifests.errors import VadpipeError
from ...data_manifests.settings import Settings
from ...extractors.base import PrecisionRequest
from ...extractors.footage.identity import HashMode
from ...extractors.footage.limits import CorruptPolicy
from ..engine.settings import Engine
from ..scores.events import EventConfig


class ConfigError(VadpipeError, ValueError):
    """A setting that cannot be read."""


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
    """One extractor: `NAME` or `NAME:PRESET`, and what differs from it.

    Attributes:
        extractor: the name.
        set: config values.
        weights: of its network; a table slot -> weights where it has several.
        precision: of its networks.
    """

    extractor: str
    set: dict[str, Any] = Field(default_factory=dict)
    weights: str | dict[str, str] | None = None
    precision: PrecisionRequest = "auto"


class TrainSection(Settings):
    """One detector.

    Attributes:
        detector: the name.
        set: config values.
        weights: that its network starts from; a table slot -> weights where it has several.
        features: role -> feature set, where several would do.
    """

    detector: str
    set: dict[str, Any] = Field(default_factory=dict)
    weights: str | dict[str, str] | None = None
    features: dict[str, str] = Field(default_factory=dict)


class ScoreSection(Settings):
    """What to score, and how scores become events."""

    split: str = "test"
    events: EventConfig = EventConfig()


class RunConfig(Settings):
    """A whole run, as `vadpipe run` reads it.

    Attributes:
        out: folder of the results.
        cache: root of the cache; None is the default one.
        manifest: which videos.
        extract: the extractors.
        train: the detector.
        score: what to score.
        seed: of everything random.
        engine: where and how everything runs.
        on_corrupt: what to do with clips that have damaged frames.
        max_bytes: refuse to extract more than this.
        hash_mode: how files are identified.
        image_fps: nominal rate of image folders.
    """

    out: Path
    cache: Path | None = None
    manifest: ManifestSection
    extract: tuple[ExtractSection, ...] = Field(min_length=1)
    train: TrainSection
    score: ScoreSection = ScoreSection()
    seed: int = 0
    engine: Engine = Engine()
    on_corrupt: CorruptPolicy = "keep"
    max_bytes: int | None = Field(default=None, ge=0)
    hash_mode: HashMode = "sampled"
    image_fps: float = Field(default=25.0, gt=0)


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
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    for key, value in parse_settings(overrides).items():
        at = values
        *sections, last = key.split(".")
        for section in sections:
            at = at.setdefault(section, {})
            if not isinstance(at, dict):
                raise ConfigError(f"--set {key}: {section} is no section with keys")
        at[last] = value
    run = RunConfig.model_validate(values)
    base = path.resolve().parent
    videos = run.manifest
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
        }
    )


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """`key=value` strings to a dict: values are TOML (`3`, `true`, `[1, 2]`), else plain strings.

    Raises:
        ConfigError: there is no "=".
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {pair!r}: write key=value")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        settings[key.strip()] = None if value == "none" else value
    return settings


def default_cache() -> Path:
    """`$VADPIPE_CACHE`, else the user's cache folder."""
    named = os.environ.get("VADPIPE_CACHE")
    return Path(named) if named else Path(pooch.os_cache("vadpipe"))
