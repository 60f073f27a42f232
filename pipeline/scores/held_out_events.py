"""Events of held-out normal footage at any threshold: what a rate of events rests on.

The held-out rows are put on frames once, with the hysteresis, merging and minimum length of
`find_events`. Then the events above any threshold are counted from the runs of frames above the
lower level, without looking at a frame again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .events import EventConfig, EventError
from .frame_runs import FrameTimes, joined, runs_above
from .frames import expand_to_frames
from .held_out import HeldOut

DAY = 86_400.0  # seconds
MOST_FRAMES = 100_000_000  # of a held-out video: 46 days at 25 frames a second


@dataclass(frozen=True)
class VideoRuns:
    """The runs of one held-out video above the lower level.

    Attributes:
        runs: (r, 2) first frame and one past the last.
        peaks: (r,) the highest score in each.
        n_frames: of the video, as far as it has scores.
        seconds: the same.
        times: how runs become events.
    """

    runs: NDArray[np.int64]
    peaks: NDArray[np.float64]
    n_frames: int
    seconds: float
    times: FrameTimes

    def count(self, high: float) -> int:
        """Events with a frame above a threshold that is not below the lower level."""
        return len(joined(self.runs[self.peaks > high], self.times, self.n_frames))

    def event_peaks(self) -> NDArray[np.float64]:
        """The highest score of each event at the lower level, as (e,)."""
        spans = joined(self.runs, self.times, self.n_frames)
        middle = self.runs.mean(axis=1)
        event = np.searchsorted(spans[:, 0], middle, side="right") - 1
        peaks = np.full(len(spans), -np.inf)
        inside = event >= 0
        inside[inside] &= middle[inside] < spans[event[inside], 1]
        np.maximum.at(peaks, event[inside], self.peaks[inside])
        return peaks


@dataclass(frozen=True)
class Budgeted:
    """The threshold of a budget.

    Attributes:
        value: raw score.
        events: that the held-out footage has at it.
        at_floor: whether it is the lower level, where the budget is not used up.
    """

    value: float
    events: int
    at_floor: bool


class HeldOutEvents:
    """Events of held-out footage as a function of the threshold.

    Args:
        held_out:
            Rows of normal videos, with their frame rates.
        config:
            The times of events.
        low:
            Raw score that keeps an event going; no threshold is below.
        column:
            The score column.

    Attributes:
        videos: video id -> its runs.
        low: as given.

    Raises:
        EventError: a frame rate is not known (a model of an earlier version), or a video is
            longer than any.
        HeldOutError: there is no such column.
    """

    def __init__(
        self, held_out: HeldOut, config: EventConfig, low: float, column: str = "score"
    ) -> None:
        self.low = low
        self.videos = dict(_runs_of(held_out, config, low, column))

    def days(self, of: Sequence[str] | None = None) -> float:
        """How long the footage of some videos is (of all without names), in days."""
        return sum(self.videos[video].seconds for video in self._named(of)) / DAY

    def count(self, high: float, of: Sequence[str] | None = None) -> int:
        """Events of some videos above a threshold; one below the lower level stands for it."""
        high = max(high, self.low)
        return sum(self.videos[video].count(high) for video in self._named(of))

    def event_peaks(self, of: Sequence[str] | None = None) -> NDArray[np.float64]:
        """The highest score of each event of some videos at the lower level, ascending."""
        found = [self.videos[video].event_peaks() for video in self._named(of)]
        return np.sort(np.concatenate([np.empty(0), *found]))

    def counts(self, of: Sequence[str] | None = None) -> Iterator[tuple[float, int]]:
        """Thresholds at which the number of events of some videos changes, highest first.

        Yields:
            (threshold, events above it); the last threshold is the lower level.
        """
        names = self._named(of)
        owners = [np.full(len(self.videos[v].peaks), i) for i, v in enumerate(names)]
        owner = np.concatenate([np.empty(0, np.int64), *owners])
        peaks = np.concatenate([np.empty(0), *(self.videos[v].peaks for v in names)])
        order = np.argsort(-peaks, kind="stable")
        owner, peaks = owner[order], peaks[order]
        events = np.zeros(len(names), np.int64)
        at = 0
        while at < len(peaks):
            yield float(peaks[at]), int(events.sum())
            stop = int(np.searchsorted(-peaks, -peaks[at], side="right"))
            level = float(peaks[stop]) if stop < len(peaks) else self.low
            for one in np.unique(owner[at:stop]):  # only their runs are new
                events[one] = self.videos[names[one]].count(level)
            at = stop
        yield self.low, int(events.sum())

    def budgeted(self, budgets: Sequence[float], of: Sequence[str] | None = None) -> list[Budgeted]:
        """The thresholds of some budgets on the footage of some videos (of all without names).

        The threshold of a budget is the lowest one for which it and every higher one make no more
        events than that. (A higher threshold may make more events than a lower one: what lies
        between two parts of an event may drop out.) So a larger budget never has a higher
        threshold.

        Args:
            budgets:
                Events per day.
            of:
                Video ids.
        """
        found: dict[float, Budgeted] = {}
        waiting = sorted(set(budgets))
        days = self.days(of)
        before: tuple[float, int] | None = None
        for value, events in self.counts(of):
            while waiting and before is not None and events > waiting[0] * days + 1e-9:
                found[waiting.pop(0)] = Budgeted(*before, at_floor=False)
            if not waiting:
                break
            before = (value, events)
        if before is not None:  # there is at least the lower level
            found |= {budget: Budgeted(*before, at_floor=True) for budget in waiting}
        return [found[budget] for budget in budgets]

    def _named(self, of: Sequence[str] | None) -> Sequence[str]:
        return list(self.videos) if of is None else of


def _runs_of(
    held_out: HeldOut, config: EventConfig, low: float, column: str
) -> Iterator[tuple[str, VideoRuns]]:
    rates = held_out.fps
    if lost := sorted(set(held_out.videos) - set(rates)):
        raise EventError(
            f"the held-out rows do not say the frame rate of {', '.join(lost[:5])}, so no number "
            "of events per day can be stated: train the model again with --force, or name a "
            "quantile"
        )
    for video_id in held_out.videos:
        part = held_out.of_video(video_id)
        first, last = (part.table[name].to_numpy() for name in ("frame_start", "frame_stop"))
        begin, end = int(first.min()), int(last.max())
        if end - begin > MOST_FRAMES:
            raise EventError(
                f"the held-out rows of {video_id!r} reach over {end - begin:,} frames, which no "
                "video has: train the model again with --force"
            )
        frames = expand_to_frames(first, last, part.values(column), begin, end)
        runs = runs_above(frames, low)
        # Between two runs there is a frame at or below `low`: it does not raise a maximum.
        peaks = np.maximum.reduceat(frames, runs[:, 0]) if len(runs) else np.empty(0)
        fps = rates[video_id]
        times = FrameTimes.of(config.merge_seconds, config.min_seconds, config.pad_seconds, fps)
        yield video_id, VideoRuns(runs, peaks, len(frames), len(frames) / fps, times)
