"""Score curves, events and ground-truth bands as the page draws them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scores.folder import ScoreFolder
from ..scores.frames import expand_to_frames
from ..scores.limit import Limit

CURVE_POINTS = 1500  # most points of a drawn curve
WIDTH, HEIGHT = 1000.0, 100.0  # units of a drawn curve; the page stretches them

Times = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Band:
    """A coloured stretch of a curve: left border and width in its units, text for the pointer."""

    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Curve:
    """What is drawn of one video; all numbers but `high` in units of WIDTH x HEIGHT."""

    points: str
    threshold: float | None
    high: float | None
    events: list[Band]
    truth: list[Band]
    ticks: list[str]


@dataclass(frozen=True)
class VideoView:
    """One video: a row of the table and maybe a curve. `anchor` names its place in the page."""

    anchor: str
    facts: Mapping[str, Any]
    seconds: float
    highest: float
    events: int
    truth: Times | None
    auc: float | None
    n_abnormal: int | None
    curve: Curve | None = None


def draw(
    folder: ScoreFolder,
    views: Sequence[VideoView],
    events: Sequence[Mapping[str, Any]],
    limit: Limit | None,
    column: str,
) -> list[VideoView]:
    """Add curves, all to one scale: raw scores are comparable across videos."""
    scores = []
    for view in views:
        table = folder.scores(view.facts["video_id"], column)
        frames = expand_to_frames(
            table["frame_start"].to_numpy(),
            table["frame_stop"].to_numpy(),
            table[column].to_numpy(),
            view.facts["frame_start"],
            view.facts["frame_stop"],
        )
        scores.append((len(frames), *decimate(frames, CURVE_POINTS)))
    if not scores:
        return []
    highs = [None if limit is None else limit.of(view.facts["video_id"]) for view in views]
    drawn_at = [high for high in highs if high is not None]
    levels = np.concatenate([values for _, _, values in scores] + [drawn_at])
    low, span = float(levels.min()), float(np.ptp(levels)) or 1.0

    def y(value: NDArray[np.float64]) -> NDArray[np.float64]:
        return HEIGHT * (0.97 - 0.90 * (value - low) / span)  # events have the top edge

    by_video: dict[str, list[Mapping[str, Any]]] = {view.facts["video_id"]: [] for view in views}
    for event in events:
        if event["video_id"] in by_video:
            by_video[event["video_id"]].append(event)
    drawn = []
    for view, high, (n, index, values) in zip(views, highs, scores, strict=True):
        first, fps = view.facts["frame_start"], view.facts["fps"]
        x = np.concatenate([[0.0], (index + 0.5) / n * WIDTH, [WIDTH]])
        levels = y(np.concatenate([values[:1], values, values[-1:]]))
        found = [
            (e["frame_start"] - first, e["frame_stop"] - first, _event_text(e))
            for e in sorted(by_video[view.facts["video_id"]], key=lambda e: e["frame_start"])
        ]
        labelled = [
            (a - first, b - first, f"labelled anomaly {timecode(a / fps)} to {timecode(b / fps)}")
            for a, b in view.truth or ()
            if a < first + n and b > first
        ]
        curve = Curve(
            points=" ".join(f"{a:.5g},{b:.4g}" for a, b in zip(x, levels, strict=True)),
            threshold=None if high is None else float(y(np.array(high))),
            high=high,
            events=_bands(found, n, "events"),
            truth=_bands(labelled, n, "labelled anomalies"),
            ticks=[timecode((first + n * k / 4) / fps, tenths=view.seconds < 60) for k in range(5)],
        )
        drawn.append(VideoView(**{**vars(view), "curve": curve}))
    return drawn


def _event_text(event: Mapping[str, Any]) -> str:
    times = f"{timecode(event['start_s'])} to {timecode(event['end_s'])}"
    return f"event {times}, peak score {event['peak_score']:.4g}"


def _bands(spans: Iterable[tuple[int, int, str]], frames: int, name: str) -> list[Band]:
    """Spans of frames, ascending, in units of a curve; those too close to tell apart become one."""
    merged: list[tuple[float, float, list[str]]] = []
    for first, last, text in spans:
        left = max(first, 0) / frames * WIDTH
        right = max(min(last, frames) / frames * WIDTH, left + 2.0)  # at least visible
        if merged and left <= merged[-1][1] + 1.0:
            before, reached, texts = merged[-1]
            texts.append(text)
            merged[-1] = (before, max(reached, right), texts)
        else:
            merged.append((left, right, [text]))
    return [
        Band(
            x=round(left, 2),
            width=round(right - left, 2),
            text=texts[0] if len(texts) == 1 else f"{len(texts):,} {name}",
        )
        for left, right, texts in merged
    ]


def decimate(
    values: NDArray[np.float64], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose at most `limit` samples so that the drawn curve looks like all of them.

    The samples are cut into equal bins; each keeps its lowest and its highest, so that no peak is
    lost. Samples inside a run of equal values say nothing and are dropped.

    Args:
        values:
            (n,) at least one.
        limit:
            At least 4.

    Returns:
        (k,) ascending indices and the values there; the first and the last sample are kept.
    """
    index = np.arange(len(values))
    if len(values) > limit:
        edges = np.linspace(0, len(values), limit // 2).astype(np.int64)  # limit // 2 - 1 bins
        kept = [0, len(values) - 1]
        for a, b in pairwise(edges):
            kept += [a + int(values[a:b].argmin()), a + int(values[a:b].argmax())]
        index = np.unique(kept)
    chosen = values[index]
    turns = np.ones(len(index), dtype=bool)
    turns[1:-1] = (chosen[1:-1] != chosen[:-2]) | (chosen[1:-1] != chosen[2:])
    return index[turns], chosen[turns]


def timecode(seconds: float, *, tenths: bool = True) -> str:
    """Seconds as `hh:mm:ss.t`, cut and not rounded, as players show it; 30 h are `30:00:00.0`."""
    whole, tenth = divmod(int(seconds * 10 + 1e-6), 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{second:02}" + (f".{tenth}" if tenths else "")
