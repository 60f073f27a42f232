"""From a rule and held-out rows to the two levels of events: quantile, value, budget, extreme."""

from __future__ import annotations

import math

from .events import Calibration, EventConfig, EventError, EventThresholds, Threshold
from .held_out import HeldOut
from .held_out_events import HeldOutEvents
from .tail import FEW_PEAKS, MORE_PEAKS, Tail

SURE = -math.log(0.05)  # expected events of which 95 % of the time at least one is seen: 3.0


def thresholds_of(
    config: EventConfig,
    calibration: Calibration,
    held_out: HeldOut | None,
    column: str = "score",
) -> EventThresholds:
    """The levels that a rule gives.

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
            f"at the lower level already, normal footage has {events / days:.3g} events a day, "
            f"fewer than the budget of {budget:g}: a lower release quantile would use it up"
        )
    if budget * days < SURE:
        warnings.append(
            f"{in_time(days)} without an event show at most {SURE / days:.3g} a day: the held-out "
            f"footage is too short for a budget of {budget:g}, so its threshold may alarm more "
            "often; hold back more normal footage, or derive it from the tail (--extreme)"
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


def in_time(days: float) -> str:
    """A length of footage for people: `2.1 hours`, `40 s`, `3.0 days`."""
    seconds = days * 86_400
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if days < 3 else f"{days:.1f} days"
