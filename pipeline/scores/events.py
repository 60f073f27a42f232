"""Scores to events: a threshold calibrated on normal footage, hysteresis, merging, minimum length.

By default the threshold is a quantile of the raw scores of normal videos that the detector was not
trained on, so its meaning is an alarm rate: the share of normal score rows that may lie above it.
Other rules are in `rules`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from ...data_manifests.errors import VadpipeError
from ...data_manifests.settings import Settings, in_words
from .frame_runs import FrameTimes, joined, runs_above
from .frames import expand_to_frames

# Quantile levels that a model keeps: ten times finer with every 9, where thresholds are.
LEVELS = np.unique(
    np.concatenate(
        [
            np.linspace(0.0, 0.9, 91),
            np.linspace(0.9, 0.99, 91),
            np.linspace(0.99, 0.999, 91),
            np.linspace(0.999, 0.9999, 91),
            np.linspace(0.9999, 1.0, 11),
        ]
    ).round(6)
)
RULES = ("quantile", "value", "budget", "extreme")  # settings that say where the threshold is
NAMED = 5  # scenes in a warning
FEW_VIDEOS = 5  # below this, one odd video decides the threshold: say so
MORE = f"train on more normal footage, of {FEW_VIDEOS} videos or more, or take a lower quantile"

EVENT_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("event_id", pa.string()),
        ("frame_start", pa.int64()),
        ("frame_stop", pa.int64()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("peak_frame", pa.int64()),
        ("peak_s", pa.float64()),
        ("peak_score", pa.float64()),
        ("mean_score", pa.float64()),
    ]
)


class EventError(VadpipeError, ValueError):
    """Scores or settings from which no events can be made."""


class EventConfig(Settings):
    """How scores become events.

    An event needs a frame above the threshold. Where that is, one of four rules says; the last
    three replace the quantile.

    Attributes:
        quantile: the threshold is this quantile of normal scores; 0.99 lets about 1 % of normal
            rows through.
        value: the threshold is this raw score.
        budget: the threshold makes at most this many events per camera and day of normal footage.
        extreme: the same for rates that are rarer than normal footage shows, from a fitted tail.
        per_scene: a scene (camera) with enough normal footage has a threshold of its own; see
            `rules`.
        release_quantile: an event goes on while scores stay above this quantile (hysteresis), so
            that a score that hovers at the threshold makes one event.
        merge_seconds: events with no more than this between them become one.
        min_seconds: shorter events are dropped, after merging. Half a second is below one snippet
            of 16 frames at 25 fps: it drops flicker of frame-wise detectors only.
        pad_seconds: added on both sides for the viewer; 0 keeps the borders as measured.
    """

    quantile: float = Field(default=0.99, gt=0.0, lt=1.0)
    value: float | None = Field(default=None, allow_inf_nan=False)
    budget: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    extreme: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    per_scene: bool = True
    release_quantile: float = Field(default=0.95, ge=0.0, lt=1.0)
    merge_seconds: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    min_seconds: float = Field(default=0.5, ge=0.0, allow_inf_nan=False)
    pad_seconds: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> EventConfig:
        if len(given := [name for name in RULES[1:] if getattr(self, name) is not None]) > 1:
            raise ValueError(f"{' and '.join(given)} both say where the threshold is: name one")
        if self.rule == "quantile" and self.release_quantile > self.quantile:
            raise ValueError(
                f"release_quantile {self.release_quantile} is above quantile {self.quantile}: "
                "an event could not go on at the level at which it starts"
            )
        return self

    @property
    def rule(self) -> str:
        """Which of `RULES` says where the threshold is."""
        return next((name for name in RULES[1:] if getattr(self, name) is not None), RULES[0])

    @property
    def names_rule(self) -> bool:
        """Whether the rule was given, and is not the default."""
        return not self.model_fields_set.isdisjoint(RULES)

    def rule_in_words(self) -> str:
        """The rule and its number: "quantile 0.99", "budget 2 events per camera and day"."""
        number = getattr(self, self.rule)
        if self.rule in ("budget", "extreme"):
            return f"{self.rule} {number:g} events per camera and day"
        return f"{self.rule} {number:.6g}"

    def with_rule_of(self, other: EventConfig | None) -> EventConfig:
        """These settings, with the rule of others where they name none themselves."""
        if other is None or self.names_rule:
            return self
        taken = {name: getattr(other, name) for name in RULES}
        for name in {"release_quantile", "per_scene"} - self.model_fields_set:
            taken[name] = getattr(other, name)
        own = {name: getattr(self, name) for name in self.model_fields_set}
        return EventConfig(**{**own, **taken})

    def in_use(self) -> dict[str, Any]:
        """The settings without rules that are not used, not even the quantile."""
        values = self.model_dump(mode="json")
        return {k: v for k, v in values.items() if k not in RULES or k == self.rule}

    def for_key(self) -> dict[str, Any]:
        """The settings as a key has them: rules that are not used are not part of it."""
        values = self.model_dump(mode="json", exclude_none=True)
        if self.per_scene:
            del values["per_scene"]
        return values


@dataclass(frozen=True)
class Threshold:
    """One level of the calibration.

    Attributes:
        quantile: as asked; of a level that is no quantile, about the share of normal rows below.
        value: raw score.
        warnings: why the value may be wrong for new footage; () where there is no reason.
    """

    quantile: float
    value: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class EventThresholds:
    """The two levels of the hysteresis; `to_json` is the `threshold` entry of `run.json`.

    Attributes:
        high: starts an event.
        low: keeps it going.
        rule: which rule the upper level comes from, in words.
        scenes: scene -> the levels of its own, where it has some.
    """

    high: Threshold
    low: Threshold
    rule: str
    scenes: Mapping[str, EventThresholds] = field(default_factory=dict)

    def of(self, scene: Any) -> EventThresholds:
        """The levels of a scene: its own, or the common ones."""
        return self.scenes.get(scene, self) if isinstance(scene, str) else self

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: rule, both levels, both quantiles, warnings, scenes if there are."""
        own = {s: {"high": t.high.value, "low": t.low.value} for s, t in self.scenes.items()}
        return {
            **({"scenes": own} if own else {}),
            "rule": self.rule,
            "high": self.high.value,
            "low": self.low.value,
            "quantile": self.high.quantile,
            "release_quantile": self.low.quantile,
            "warnings": self._warnings(),
        }

    def _warnings(self) -> list[str]:
        """Those of both levels, then those of scenes alone, each once with its scenes."""
        common = list(dict.fromkeys(self.high.warnings + self.low.warnings))
        own: dict[str, list[str]] = {}
        for scene, levels in self.scenes.items():
            for text in dict.fromkeys(levels.high.warnings + levels.low.warnings):
                own.setdefault(text, []).append(scene)
        for text, scenes in own.items():
            if text not in common:
                more = f" and {len(scenes) - NAMED} more" if len(scenes) > NAMED else ""
                common.append(f"scene {', '.join(scenes[:NAMED])}{more}: {text}")
        return common


@dataclass(frozen=True)
class Calibration:
    """Quantiles of raw scores on normal videos that training did not see.

    Attributes:
        levels: ascending from 0 to 1.
        values: the raw score at each level, ascending.
        n_rows: score rows they were taken from; neighbouring rows of a video are not independent.
        n_videos: videos they were taken from.
        method: how the rows were held back, for the reader of the model ("leave one video out").
        warnings: why no threshold of it is to be trusted, and what to do; () in models of earlier
            versions.
    """

    levels: tuple[float, ...]
    values: tuple[float, ...]
    n_rows: int
    n_videos: int
    method: str
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (
            len(self.levels) != len(self.values)
            or len(self.levels) < 2
            or (self.levels[0], self.levels[-1]) != (0.0, 1.0)
            or not all(map(math.isfinite, (*self.levels, *self.values)))
            or any(np.diff(self.levels) <= 0)
            or any(np.diff(self.values) < 0)
            or self.n_rows < 1
            or self.n_videos < 1
        ):
            raise EventError(
                "a calibration needs levels that rise from 0 to 1 and a finite value that does not "
                "fall for each; train the model again"
            )

    @classmethod
    def from_scores(
        cls, scores: Sequence[ArrayLike], *, method: str, warnings: Sequence[str] = ()
    ) -> Calibration:
        """Take the quantiles of the rows of all videos together.

        The q-quantile is the order statistic number q (n + 1) (Weibull's). A new row that is
        exchangeable with the n lies above it with probability 1 - q under any distribution; the
        more usual q (n - 1) + 1 lets more through when rows are few.

        Args:
            scores:
                One (n,) array of raw scores a video; empty ones are left out.
            method:
                How the rows were held back from training.
            warnings:
                Why they are not what normal scores of new footage are.

        Raises:
            EventError: there is no row, or one is not finite.
        """
        videos = [np.asarray(video, dtype=np.float64).ravel() for video in scores]
        videos = [video for video in videos if len(video)]
        if not videos:
            raise EventError(
                "no scores of normal videos to calibrate on: hold back at least one normal video"
            )
        rows = np.concatenate(videos)
        if not np.isfinite(rows).all():
            raise EventError("scores to calibrate on are not finite")
        values = np.quantile(rows, LEVELS, method="weibull")
        # The interpolation may fall by the last bit where neighbours are equal.
        values = np.maximum.accumulate(values)
        return cls(
            levels=tuple(LEVELS.tolist()),
            values=tuple(values.tolist()),
            n_rows=len(rows),
            n_videos=len(videos),
            method=method,
            warnings=tuple(warnings),
        )

    def threshold(self, quantile: float) -> Threshold:
        """The raw score at a quantile, linear between the kept levels.

        Raises:
            EventError: the quantile is not in [0, 1).
        """
        if not 0.0 <= quantile < 1.0:
            raise EventError(f"quantile {quantile} is not in [0, 1)")
        warnings = list(self.warnings)
        needed = math.ceil(1.0 / (1.0 - quantile) - 1.0 - 1e-6)
        if self.n_rows < needed:
            warnings.append(
                f"quantile {quantile:g} needs at least {needed:,} rows of normal footage, the "
                f"calibration has {self.n_rows:,}: the threshold is their highest score"
            )
        if self.n_videos < FEW_VIDEOS:
            warnings.append(
                f"the calibration rests on {self.n_videos} normal "
                f"{'video' if self.n_videos == 1 else 'videos'} only: other footage may alarm much "
                "more often or less often than stated"
            )
        if self.n_rows > 1 and self.values[0] == self.values[-1]:
            warnings.append(
                f"all {self.n_rows:,} normal scores are {self.values[0]:g}: they tell nothing "
                "about other footage; check that the training videos move and are no copies"
            )
        value = float(np.interp(quantile, self.levels, self.values))
        return Threshold(quantile, value, tuple(warnings))

    def thresholds(self, config: EventConfig) -> EventThresholds:
        """The two levels of the rule "quantile"; for all rules see `rules.thresholds_of`."""
        return EventThresholds(
            high=self.threshold(config.quantile),
            low=self.threshold(config.release_quantile),
            rule=EventConfig(
                quantile=config.quantile, release_quantile=config.release_quantile
            ).rule_in_words(),
        )

    def place(self, value: float) -> float:
        """About the share of the rows at or below a raw score, linear between the kept levels."""
        return float(np.interp(value, self.values, self.levels))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for the card of a model."""
        return {
            **asdict(self),
            "levels": list(self.levels),
            "values": list(self.values),
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """Read what `to_json` wrote.

        Raises:
            EventError: a value is missing or is not what it should be.
        """
        try:
            return TypeAdapter(cls).validate_python(values)
        except (ValidationError, OverflowError) as error:
            reason = in_words(error) if isinstance(error, ValidationError) else error
            raise EventError(f"not a calibration (train the model again): {reason}") from error


@dataclass(frozen=True)
class Event:
    """A stretch of a video with unusually high scores.

    Attributes:
        frame_start: first frame.
        frame_stop: one past the last frame.
        start_s: seconds from the start of the file, frame_start / fps.
        end_s: frame_stop / fps.
        peak_frame: middle of the first run of frames that have the highest score.
        peak_s: peak_frame / fps.
        peak_score: the highest score.
        mean_score: mean over the frames of the event.
    """

    frame_start: int
    frame_stop: int
    start_s: float
    end_s: float
    peak_frame: int
    peak_s: float
    peak_score: float
    mean_score: float


def find_events(
    frame_start: ArrayLike,
    frame_stop: ArrayLike,
    score: ArrayLike,
    fps: float,
    high: float,
    low: float,
    config: EventConfig,
) -> list[Event]:
    """Find the events of one video.

    Rows are expanded to frames (mean over covering windows). An event is a run of frames above
    `low` that has a frame above `high`; then events that are close are merged, short ones are
    dropped, the rest is padded. "Above" is strict: rows that tie with the threshold were among the
    normal ones that it was calibrated to let pass.

    Args:
        frame_start:
            (n,) first frame of each row, in frames of the whole file.
        frame_stop:
            (n,) one past the last.
        score:
            (n,) raw score.
        fps:
            Frames per second.
        high:
            Raw score that starts an event.
        low:
            Raw score that keeps it going, at most `high`.
        config:
            Times; its quantiles are not used here.

    Returns:
        Disjoint events in order of time.

    Raises:
        EventError: fps is not positive, or the thresholds are not ordered.
        MetricsError: the rows are no windows of frames with finite scores.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise EventError(f"fps {fps} is not a positive number")
    if math.isnan(high) or math.isnan(low) or low > high:
        raise EventError(f"the lower threshold {low} has to be at most the upper one, {high}")
    if not np.size(score):
        raise EventError("a video without score rows has no events to look for")
    first, stop = int(np.min(frame_start)), int(np.max(frame_stop))
    frames = expand_to_frames(frame_start, frame_stop, score, first, stop)  # (stop - first,)

    times = FrameTimes.of(config.merge_seconds, config.min_seconds, config.pad_seconds, fps)
    runs = runs_above(frames, low)
    alarms = np.concatenate([[0], np.cumsum(frames > high)])  # alarms before each frame
    runs = joined(runs[alarms[runs[:, 1]] > alarms[runs[:, 0]]], times, len(frames))
    return [event_between(frames, int(a), int(b), first, fps) for a, b in runs]


def frames_of(seconds: float, fps: float) -> int:
    """How many whole frames a time has.

    Raises:
        EventError: fps is not positive.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise EventError(f"fps {fps} is not a positive number")
    return FrameTimes.of(seconds, 0.0, 0.0, fps).gap


def events_table(events: Mapping[str, Sequence[Event]]) -> pa.Table:
    """The events of many videos as one table, in the given order; schema `EVENT_SCHEMA`.

    Args:
        events:
            video_id -> events. Event ids are the video id and a number from 1: `01-e1`.
    """
    rows = [
        {"video_id": video_id, "event_id": f"{video_id}-e{number}", **asdict(event)}
        for video_id, found in events.items()
        for number, event in enumerate(found, start=1)
    ]
    return pa.Table.from_pylist(rows, schema=EVENT_SCHEMA)


def event_between(frames: NDArray[np.float64], a: int, b: int, first: int, fps: float) -> Event:
    """The event of the frames [a, b) of an array that begins at frame `first` of the file."""
    inside = frames[a:b]
    peak = int(np.argmax(inside))
    plateau = int(np.argmin(np.append(inside[peak:] == inside[peak], False)))
    middle = first + a + peak + (plateau - 1) // 2
    return Event(
        frame_start=first + a,
        frame_stop=first + b,
        start_s=(first + a) / fps,
        end_s=(first + b) / fps,
        peak_frame=middle,
        peak_s=middle / fps,
        peak_score=float(inside[peak]),
        mean_score=float(inside.mean()),
    )
