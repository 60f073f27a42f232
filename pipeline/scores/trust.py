"""How far the rate that a threshold states can be trusted: counts, intervals, videos left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from ...data_manifests.plain_text import counted
from .events import Calibration, EventConfig, EventError, EventThresholds
from .held_out import HeldOut
from .held_out_events import HeldOutEvents
from .rules import events_below, in_time, per_day
from .stored_threshold import Measured
from .tail import Tail

LEVEL = 0.95  # of intervals
FOLDS = 20  # more videos are left out in as many groups: each fold costs a fit
SHARES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)  # of rows above, on a curve
RATES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # events a day, on a curve
BY_ROWS, BY_DAY = "share of rows", "events a day"  # what is stated


@dataclass(frozen=True)
class Trust:
    """What a threshold rests on.

    Attributes:
        lines: what it rests on, in words.
        warnings: why it deserves little trust.
        unit: what is stated: `BY_ROWS` or `BY_DAY`.
        curve: stated against measured, each video left out once.
    """

    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    unit: str
    curve: tuple[Measured, ...] = ()


def poisson_interval(count: int, exposure: float) -> tuple[float, float]:
    """The interval of a rate from a count of independent events: exact (Garwood 1936), 95 %.

    Args:
        count:
            Events.
        exposure:
            Days in which they were counted.

    Returns:
        (least, most) events a day. Without an event, the upper end is one-sided: 3 / exposure.
    """
    if not count:
        return 0.0, -float(np.log(1 - LEVEL)) / exposure
    tail = (1 - LEVEL) / 2
    least = chi2.ppf(tail, 2 * count) / 2
    most = chi2.ppf(1 - tail, 2 * count + 2) / 2
    return float(least / exposure), float(most / exposure)


def trust_in(
    config: EventConfig,
    calibration: Calibration,
    held_out: HeldOut | None,
    thresholds: EventThresholds,
) -> Trust:
    """What the thresholds of a rule rest on, with each held-out video left out once.

    Args:
        config:
            The rule.
        calibration:
            Of the held-out rows.
        held_out:
            The rows; models of version 0.1 have none.
        thresholds:
            What the rule gives.
    """
    unit = BY_ROWS if config.rule == "quantile" else BY_DAY
    rows = f"{calibration.n_rows:,} held-out rows of {counted(calibration.n_videos, 'video')}"
    share = f"about {100 * (1 - calibration.place(thresholds.high.value)):.3g} % of them lie above"
    lines, warnings = [f"{rows}; {share}"], list[str]()
    if held_out is None:
        return Trust(tuple(lines), ("the model keeps no held-out rows: no rate is known",), unit)
    folds = _folds(held_out.videos)
    if len(folds) < 2:
        warnings.append("a single held-out video: nothing says what another video would show")
    else:
        lines.append(_left_out_rows(config, held_out, folds, thresholds))
    try:
        events = events_below(config, calibration, held_out)
    except EventError as error:  # frame rates are not known
        return Trust(tuple(lines), (*warnings, str(error)), unit, _row_curve(held_out, folds, unit))
    count = events.count(thresholds.high.value)
    lines.insert(1, f"{in_time(events.days())} of held-out footage: {_rate(count, events.days())}")
    if thresholds.high.value < events.low:
        warnings.append("the threshold is below the release quantile: events are counted there")
    if len(folds) > 1 and config.rule in ("budget", "extreme"):
        lines.append(_left_out_events(config, events, folds))
    lines += _scene_lines(config, held_out, thresholds)
    curve = _row_curve(held_out, folds, unit) or _day_curve(config, events, folds)
    return Trust(tuple(lines), tuple(warnings), unit, curve)


def _scene_lines(config: EventConfig, held_out: HeldOut, thresholds: EventThresholds) -> list[str]:
    """Which scenes have a threshold of their own, and which have the common one."""
    lines, common = list[str](), list[str]()
    for scene, videos in held_out.scenes.items():
        if (own := thresholds.scenes.get(scene)) is None:
            common.append(scene)
            continue
        events = HeldOutEvents(held_out.of_videos(videos), config, own.low.value)
        rate = _rate(events.count(own.high.value), events.days())
        hours = f"{in_time(events.days())} of {counted(len(videos), 'video')}"
        lines.append(f"scene {scene}: its own threshold {own.high.value:.6g}, {hours}: {rate}")
    if len(held_out.scenes) > 1 and common:
        lines.append(f"scenes with the common threshold: {', '.join(common)}")
    return lines


def _folds(videos: Sequence[str]) -> list[list[str]]:
    """The videos one by one, or dealt to as many groups as are left out."""
    return [list(videos[i :: min(FOLDS, len(videos))]) for i in range(min(FOLDS, len(videos)))]


def _others(folds: Sequence[Sequence[str]], i: int) -> list[str]:
    return [video for j, fold in enumerate(folds) if j != i for video in fold]


def _rate(count: int, days: float) -> str:
    least, most = poisson_interval(count, days)
    if not count:
        return f"no event, so at most {per_day(most)} a day (95 %)"
    ends = f"95 %: {per_day(least)} to {per_day(most)}"
    return f"{counted(count, 'event')}, {per_day(count / days)} a day ({ends})"


def _ways(folds: Sequence[Sequence[str]]) -> str:
    one = "each video" if max(map(len, folds)) == 1 else f"each of {len(folds)} groups of videos"
    return f"{one} left out once, with the threshold of the others"


# -------------------------------------------------------------------------------- shares of rows


def _left_out_rows(
    config: EventConfig,
    held_out: HeldOut,
    folds: Sequence[Sequence[str]],
    thresholds: EventThresholds,
) -> str:
    """The share of rows above the threshold, video by video."""
    values = _values(held_out)
    if config.rule != "quantile":
        shares = [float(np.mean(values[v] > thresholds.high.value)) for v in values]
        return f"in single videos {100 * min(shares):.3g} % to {100 * max(shares):.3g} % of rows"
    found, n_rows, shares = 0, 0, []
    for i, fold in enumerate(folds):
        value = _quantile(values, _others(folds, i), config.quantile)
        own = np.concatenate([values[video] for video in fold])
        found, n_rows = found + int(np.sum(own > value)), n_rows + len(own)
        shares.append(float(np.mean(own > value)))
    return (
        f"{_ways(folds)}: {100 * found / n_rows:.3g} % of rows above "
        f"({100 * min(shares):.3g} % to {100 * max(shares):.3g} %), "
        f"{100 * (1 - config.quantile):.3g} % stated"
    )


def _values(held_out: HeldOut) -> dict[str, np.ndarray]:
    scores = held_out.values("score")
    return {video: scores[rows] for video, rows in held_out.rows_of.items()}


def _quantile(values: dict[str, np.ndarray], of: Sequence[str], level: float) -> float:
    rows = np.concatenate([values[video] for video in of])
    return float(np.quantile(rows, level, method="weibull"))


def _row_curve(
    held_out: HeldOut, folds: Sequence[Sequence[str]], unit: str
) -> tuple[Measured, ...]:
    """Stated and measured shares of rows; () where something else is stated."""
    if unit != BY_ROWS or len(folds) < 2:
        return ()
    values = _values(held_out)
    found, n_rows = np.zeros(len(SHARES)), 0
    for i, fold in enumerate(folds):
        others = np.concatenate([values[video] for video in _others(folds, i)])
        levels = np.quantile(others, 1 - np.array(SHARES), method="weibull")
        own = np.sort(np.concatenate([values[video] for video in fold]))
        found += len(own) - np.searchsorted(own, levels, side="right")
        n_rows += len(own)
    shown = [s for s in zip(SHARES, found / n_rows, strict=True) if s[0] * n_rows >= 1]
    return tuple(Measured(stated=stated, found=float(share)) for stated, share in shown)


# -------------------------------------------------------------------------------- events a day


def _left_out_events(
    config: EventConfig, events: HeldOutEvents, folds: Sequence[Sequence[str]]
) -> str:
    """Events in the videos that the threshold does not know."""
    rate = config.budget if config.budget is not None else config.extreme
    assert rate is not None
    try:
        count = sum(
            events.count(_solver(config, events, _others(folds, i))([rate])[0], fold)
            for i, fold in enumerate(folds)
        )
    except EventError as error:
        return f"without one of the videos there is no threshold: {error}"
    return f"{_ways(folds)}: {_rate(count, events.days())}, {rate:g} a day stated"


def _solver(
    config: EventConfig, events: HeldOutEvents, of: Sequence[str]
) -> Callable[[Sequence[float]], list[float]]:
    """Rates -> thresholds, from the footage of some videos."""
    if config.rule != "extreme":
        return lambda rates: [found.value for found in events.budgeted(rates, of)]
    tail = Tail.fit(events.event_peaks(of), events.low, events.days(of))
    return lambda rates: [tail.threshold(rate) for rate in rates]


def _day_curve(
    config: EventConfig, events: HeldOutEvents, folds: Sequence[Sequence[str]]
) -> tuple[Measured, ...]:
    """Stated and measured events a day; () where no rate can be measured."""
    if len(folds) < 2 or config.rule not in ("budget", "extreme"):
        return ()
    days, most = events.days(), events.count(events.low) / events.days()
    rates = [
        rate for rate in RATES if rate < most and (config.rule == "extreme" or rate * days > 1)
    ]
    try:
        solvers = [_solver(config, events, _others(folds, i)) for i in range(len(folds))]
    except EventError:
        return ()  # without one of the videos there is no tail
    points = []
    for rate in rates:
        try:
            values = [solve([rate])[0] for solve in solvers]
        except EventError:
            continue  # without one of the videos this rate is not rare
        count = sum(events.count(value, fold) for value, fold in zip(values, folds, strict=True))
        least, high = poisson_interval(count, days)
        points.append(Measured(stated=rate, found=count / days, least=least, most=high))
    return tuple(points)
