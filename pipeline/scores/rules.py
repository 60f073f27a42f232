"""From a rule and held-out rows to the two levels of events: quantile, value, budget, extreme.

A scene (camera) whose own held-out rows are enough has levels of its own, all others have those of
all rows. Enough is: `LEAST_VIDEOS` videos, and as many rows or hours as the rule needs not to
depend on single events, see `_is_enough`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .events import Calibration, EventConfig, EventError, EventThresholds, Threshold
from .held_out import HeldOut
from .held_out_events import HeldOutEvents
from .tail import FEW_PEAKS, MORE_PEAKS, Tail

LEAST_VIDEOS = 2  # of a scene with a threshold of its own
LEAST_ROWS = 10  # that are expected above the threshold of a scene of its own
LEAST_BURSTS = 5  # separate ones among these rows: neighbouring rows are one event
SURE = -math.log(0.05)  # expected events of which 95 % of the time at least one is seen: 3.0


def thresholds_of(
    config: EventConfig,
    calibration: Calibration,
    held_out: HeldOut | None,
    column: str = "score",
) -> EventThresholds:
    """The levels that a rule gives, in common and for scenes with enough rows of their own.

    Args:
        config:
            The rule, the quantile of the lower level, and the times of events.
        calibration:
            Quantiles of the held-out rows.
        held_out:
            The rows themselves; the rules "quantile" and "value" do without.
        column:
            Of the rows, that the calibration is of.

    Raises:
        EventError: the rule needs rows or frame rates that the model does not have, or rows that
            are not there.
    """
    common = _levels_of(config, calibration, held_out, column)
    scenes = held_out.scenes if held_out is not None and config.per_scene else {}
    if config.rule == "value" or held_out is None:
        return common
    own: dict[str, EventThresholds] = {}
    notes: list[str] = []
    for scene, videos in scenes.items():
        if len(videos) == len(held_out.videos):
            continue  # all rows are of it
        rows = held_out.of_videos(videos)
        values = [rows.of_video(video).values(column) for video in rows.videos]
        part = Calibration.from_scores(values, method=f"{calibration.method}, scene {scene}")
        if not _is_enough(config, rows, part, column):
            continue
        try:
            own[scene] = _levels_of(config, part, rows, column)
        except EventError as error:
            notes.append(f"scene {scene} has the common threshold: {error}")
    high = replace(common.high, warnings=(*common.high.warnings, *notes))
    return replace(common, high=high, scenes=own)


def _is_enough(
    config: EventConfig, held_out: HeldOut, calibration: Calibration, column: str
) -> bool:
    """Whether the held-out rows of a scene are enough for a threshold of its own.

    For a quantile 10 rows have to be expected above it (1,000 rows for 0.99), and those above have
    to be 5 separate bursts, for a budget 3 events in the footage of the scene (1.5 days for 2 a
    day), for a tail 30 events at the lower level.
    """
    if len(held_out.videos) < LEAST_VIDEOS:
        return False
    if config.rule == "quantile":
        rows = len(held_out.values(column))
        if rows * (1.0 - config.quantile) < LEAST_ROWS * (1 - 1e-9):
            return False
        level = calibration.threshold(config.quantile).value
        return _bursts(config, held_out, level, column) >= LEAST_BURSTS
    events = events_below(config, calibration, held_out, column)
    if config.budget is not None:
        return config.budget * events.days() >= SURE
    return len(events.event_peaks()) >= FEW_PEAKS


def _bursts(config: EventConfig, held_out: HeldOut, level: float, column: str) -> int:
    """Separate stretches of rows above a level, joined over gaps as events are."""
    found = 0
    for video in held_out.videos:
        rows = held_out.of_video(video)
        above = rows.values(column) > level
        start, stop = (rows.table[n].to_numpy()[above] for n in ("frame_start", "frame_stop"))
        order = np.argsort(start, kind="stable")
        gap = config.merge_seconds * held_out.fps.get(video, 0.0)  # frames; rates may be unknown
        ends = np.maximum.accumulate(stop[order])
        found += int(np.count_nonzero(start[order][1:] > ends[:-1] + gap)) + bool(len(order))
    return found


def _levels_of(
    config: EventConfig, calibration: Calibration, held_out: HeldOut | None, column: str
) -> EventThresholds:
    """The levels of a rule from these rows."""
    if config.rule == "quantile":
        return calibration.thresholds(config)
    release = calibration.threshold(config.release_quantile)
    if config.value is not None:
        low = Threshold(release.quantile, min(release.value, config.value), release.warnings)
        return _levels(config, calibration, config.value, low, ())
    events = events_below(config, calibration, held_out, column)
    if config.budget is not None:
        found = events.budgeted([config.budget])[0]
        warnings = _of_budget(config.budget, found.at_floor, found.events, events.days())
        return _levels(config, calibration, found.value, release, warnings)
    assert config.extreme is not None
    tail = Tail.fit(events.event_peaks(), events.low, events.days())
    value = tail.threshold(config.extreme)
    return _levels(config, calibration, value, release, _of_tail(tail, config.extreme, events))


def events_below(
    config: EventConfig,
    calibration: Calibration,
    held_out: HeldOut | None,
    column: str = "score",
) -> HeldOutEvents:
    """The events of held-out footage at and above the lower level.

    Raises:
        EventError: there are no held-out rows, or they do not say their frame rates.
    """
    if held_out is None:
        raise EventError(
            "the model keeps no held-out rows, so no number of events per day can be stated: train "
            "it again with --force, or name a quantile"
        )
    low = calibration.threshold(config.release_quantile).value
    return HeldOutEvents(held_out, config, low, column)


def _levels(
    config: EventConfig,
    calibration: Calibration,
    value: float,
    low: Threshold,
    warnings: tuple[str, ...],
) -> EventThresholds:
    high = Threshold(calibration.place(value), value, warnings)
    return EventThresholds(high=high, low=low, rule=config.rule_in_words())


def _of_budget(budget: float, at_floor: bool, events: int, days: float) -> tuple[str, ...]:
    """Why the threshold of a budget may be wrong."""
    warnings = []
    if at_floor and events < budget * days:
        warnings.append(
            f"at the lower level already, normal footage has {per_day(events / days)} events a "
            f"day, fewer than the budget of {budget:g}: a lower release quantile would use it up"
        )
    if budget * days < SURE:
        warnings.append(
            f"{in_time(days)} without an event show at most {per_day(SURE / days)} a day: the "
            f"held-out footage is too short for a budget of {budget:g}, so its threshold may alarm "
            "more often; hold back more normal footage, or derive it from the tail (--extreme)"
        )
    return tuple(warnings)


def _of_tail(tail: Tail, rate: float, events: HeldOutEvents) -> tuple[str, ...]:
    """Why a threshold that was derived from a tail may be wrong."""
    warnings = []
    days = events.days()
    if tail.peaks < FEW_PEAKS:
        warnings.append(
            f"the tail rests on {tail.peaks} events of normal footage, fewer than {FEW_PEAKS}: "
            f"{MORE_PEAKS}"
        )
    if rate * days < 1 / 100:
        warnings.append(
            f"a rate of {rate:g} a day is far beyond {in_time(days)} of footage: the tail is "
            "extended to where nothing was seen"
        )
    return tuple(warnings)


def per_day(rate: float) -> str:
    """A rate for people: `0.02`, `34.2`, `2,880`."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def in_time(days: float) -> str:
    """A length of footage for people: `2.1 hours`, `40 s`, `3.0 days`."""
    seconds = days * 86_400
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if days < 3 else f"{days:.1f} days"
