"""Report stage: a score folder -> one HTML file that needs nothing else.

The file makes no request: style, script, curves (SVG), thumbnails and heat-maps (JPEG) are inline,
and its content security policy names the only style and script that may run. Names, paths and
messages from footage are untrusted text; the template escapes them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from ...data_manifests.record import Manifest
from ...extractors.footage.decode_worker import guarded_frames, guarded_probe
from ...extractors.footage.video import DecodeError, ProbeRow, SeekMismatch, in_order
from ..metrics.frame_level import FrameMetrics, expand_to_frames
from ..store.feature_store import write_atomically
from .heatmaps import (
    Heatmap,
    Heatmaps,
    HeatmapStyle,
    colour_bar,
    draw_heatmap,
    picture_path,
    remove_pictures,
    shrink,
    write_picture,
)

CURVE_POINTS = 1500  # most points of a drawn curve
WIDTH, HEIGHT = 1000.0, 100.0  # units of a drawn curve; the page stretches them
THUMBNAIL = 256  # longest side, pixels
SAME_SEEK = 100  # wanted frames no further apart are decoded in one go
IN_ORDER_FRAMES = 20_000  # most frames to decode for thumbnails where a file allows no seeking
MAPS = 6  # most heat-maps of one event
ALONE = (144, 256)  # height, width of a heat-map without a frame below it

Pixels = NDArray[np.uint8]

Times = tuple[tuple[int, int], ...]


class ReportError(ValueError):
    """A folder from which no report can be made; the message says what is missing."""


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of one frame, or why there is none.

    Attributes:
        frame: its number in the file.
        source: a `data:` URI, None where the frame could not be had.
        reason: why not.
    """

    frame: int
    source: str | None
    reason: str = ""


@dataclass(frozen=True)
class Band:
    """A coloured stretch of a curve: left border and width in its units, text for the pointer."""

    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Curve:
    """What is drawn of one video; all numbers in units of WIDTH x HEIGHT."""

    points: str
    threshold: float | None
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


@dataclass(frozen=True)
class HeatmapView:
    """A heat-map of the peak frame: data URI, its scale, and whether there is no frame below it."""

    name: str
    source: str
    low: float
    high: float
    alone: bool


@dataclass(frozen=True)
class EventView:
    """One event: its row of events.parquet, pictures, and whether it meets a labelled anomaly.

    `maps_note` says why it has no heat-maps, or how many are left out.
    """

    facts: Mapping[str, Any]
    anchor: str | None
    start: Thumbnail
    peak: Thumbnail
    labelled: bool | None
    heatmaps: Sequence[HeatmapView] = ()
    maps_note: str = ""


def write_report(
    score_folder: Path,
    out: Path,
    *,
    manifest: Manifest | None = None,
    max_videos: int = 100,
    max_events: int = 200,
    max_rows: int = 5000,
    style: HeatmapStyle | None = None,
    heatmap_files: bool = False,
    max_heatmap_files: int = 20,
    probe: Callable[..., ProbeRow] = guarded_probe,
) -> Path:
    """Write the report of a score folder.

    What the limits leave out is counted in the page, with the names of the complete tables.

    Args:
        score_folder:
            As the score stage wrote it; `metrics.json` is shown where evaluate has written one.
        out:
            The file to write, or a folder that gets a `report.html`.
        manifest:
            Where labelled anomalies come from.
        max_videos:
            Curves to draw, highest scores first.
        max_events:
            Events to show with pictures, highest peaks first.
        max_rows:
            Rows of each table.
        style:
            How score maps are drawn.
        heatmap_files:
            Write the heat-maps of the shown events also as
            `heatmaps/<video_id>/<frame>_<map>.png` beside the page, and delete those of an earlier
            page there.
        max_heatmap_files:
            Events of a video that get such files, highest peaks first.
        probe:
            Opens a file; a caller that has probed before can answer from its table. Called with a
            path and `hash_mode`.

    Returns:
        The file written.

    Raises:
        ReportError: the folder is incomplete.
        MetricsError: metrics.json is not what evaluate writes.
    """
    run = _read_json(score_folder / "run.json")
    rows = _read_rows(score_folder / "videos.parquet")
    events = _read_rows(score_folder / "events.parquet")
    failures = _read_rows(score_folder / "failures.parquet")
    metrics = extra = None
    if (score_folder / "metrics.json").is_file():
        extra = _read_json(score_folder / "metrics.json")
        metrics = FrameMetrics.from_json(extra)
    truth: dict[str, Times] = {}
    if manifest is not None:
        truth = {r.video_id: r.anomalies for r in manifest.records if r.anomalies is not None}

    events.sort(key=lambda e: (-e["peak_score"], e["video_id"], e["frame_start"]))
    videos = _view_videos(score_folder, rows, events, truth, metrics)
    high = run.get("threshold", {}).get("high")
    drawn = _draw(score_folder, videos[:max_videos], events, high)
    anchors = {view.facts["video_id"]: view.anchor for view in drawn}
    path = out if out.suffix == ".html" else out / "report.html"
    maps = Heatmaps(score_folder, [row["video_id"] for row in rows], style or HeatmapStyle())
    files_folder = path.parent / "heatmaps" if heatmap_files else None
    painter = _Painter(maps, files_folder, max_heatmap_files)
    shown = _view_events(events[:max_events], videos, anchors, painter, probe)
    if files_folder is not None:
        remove_pictures(files_folder, painter.written)
    template = _environment().from_string(_template())
    page = template.render(
        run={"dataset": "", "created": "", **run},
        detector=run.get("model", {}).get("detector"),
        package_version=version("vadpipe"),
        settings=flatten(run),
        folder=str(score_folder.absolute()),
        videos=videos[:max_rows],
        n_videos=len(videos),
        drawn=drawn,
        events=shown,
        n_events=len(events),
        failures=failures[:max_rows],
        n_failures=len(failures),
        failed=len({failure["video_id"] for failure in failures}),
        seconds=sum(view.seconds for view in videos),
        high=high,
        warnings=run.get("threshold", {}).get("warnings", []),
        metrics=metrics,
        unlabelled=(extra or {}).get("unlabelled", []),
        unscored=(extra or {}).get("unscored", []),
        roc=None if metrics is None else _roc_points(metrics),
        intervals=_intervals(metrics),
        found=_count_found(videos, events),
        width=WIDTH,
        height=HEIGHT,
        drawing=maps.style,
        damaged_maps=maps.damaged,
        colours=_jpeg(colour_bar(maps.style, (12, 200))) if painter.views else "",
    )
    write_atomically(path, lambda p: p.write_text(page, encoding="utf-8"))
    return path


# ------------------------------------------------------------------------------- score folder


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ReportError(f"{path.parent} is no score folder: it has no {path.name} (run score)")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path} is damaged ({error}): run score and evaluate again") from error
    if not isinstance(values, dict):
        raise ReportError(f"{path} is not a JSON object: run score and evaluate again")
    return values


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ReportError(f"{path.parent} is no score folder: it has no {path.name} (run score)")
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def _read_scores(folder: Path, video: Mapping[str, Any]) -> pa.Table:
    video_id = video["video_id"]
    path = folder / "scores" / f"{video_id}.parquet"
    if path.parent != folder / "scores":
        raise ReportError(f"video id {video_id!r} is no file name: this folder is not by score")
    if not path.is_file():
        raise ReportError(f"{path} is missing: run score again")
    table = pq.read_table(path, columns=["frame_start", "frame_stop", "score"])
    if not table.num_rows:
        raise ReportError(f"{path} has no scores: run score again")
    return table


# ------------------------------------------------------------------------------- views


def _view_videos(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    truth: Mapping[str, Times],
    metrics: FrameMetrics | None,
) -> list[VideoView]:
    """All videos, highest score first."""
    counts = Counter(event["video_id"] for event in events)
    measured = {} if metrics is None else {row.video_id: row for row in metrics.videos}
    frames = {row["video_id"]: row["frame_stop"] - row["frame_start"] for row in rows}
    if any(frames.get(video_id) != own.n_frames for video_id, own in measured.items()):
        raise ReportError(f"metrics.json in {folder} is about other videos: run evaluate again")
    views = []
    for number, row in enumerate(rows):
        fps, video_id = row["fps"], row["video_id"]
        if not (math.isfinite(fps) and fps > 0):
            raise ReportError(f"video {video_id!r} has {fps} frames per second: run score again")
        own = measured.get(video_id)
        views.append(
            VideoView(
                anchor=f"v{number}",
                facts=row,
                seconds=(row["frame_stop"] - row["frame_start"]) / fps,
                highest=float(np.max(_read_scores(folder, row)["score"].to_numpy())),
                events=counts[video_id],
                truth=truth.get(video_id),
                auc=None if own is None else own.auc,
                n_abnormal=None if own is None else own.n_abnormal,
            )
        )
    return sorted(views, key=lambda view: (-view.highest, view.facts["video_id"]))


def _draw(
    folder: Path,
    views: Sequence[VideoView],
    events: Sequence[Mapping[str, Any]],
    high: float | None,
) -> list[VideoView]:
    """Add curves, all to one scale: raw scores are comparable across videos."""
    scores = []
    for view in views:
        table = _read_scores(folder, view.facts)
        frames = expand_to_frames(
            table["frame_start"].to_numpy(),
            table["frame_stop"].to_numpy(),
            table["score"].to_numpy(),
            view.facts["frame_start"],
            view.facts["frame_stop"],
        )
        scores.append((len(frames), *decimate(frames, CURVE_POINTS)))
    if not scores:
        return []
    levels = np.concatenate([values for _, _, values in scores] + [[] if high is None else [high]])
    low, span = float(levels.min()), float(np.ptp(levels)) or 1.0

    def y(value: NDArray[np.float64]) -> NDArray[np.float64]:
        return HEIGHT * (0.97 - 0.90 * (value - low) / span)  # events have the top edge

    by_video: dict[str, list[Mapping[str, Any]]] = {view.facts["video_id"]: [] for view in views}
    for event in events:
        if event["video_id"] in by_video:
            by_video[event["video_id"]].append(event)
    drawn = []
    for view, (n, index, values) in zip(views, scores, strict=True):
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


def _view_events(
    events: Sequence[Mapping[str, Any]],
    videos: Sequence[VideoView],
    anchors: Mapping[str, str],
    painter: _Painter,
    probe: Callable[..., ProbeRow],
) -> list[EventView]:
    by_id = {view.facts["video_id"]: view for view in videos}
    wanted: dict[str, set[int]] = {}
    for event in events:
        if event["video_id"] not in by_id:
            raise ReportError(
                f"events.parquet names {event['video_id']!r}, videos.parquet does not: run score "
                "again"
            )
        wanted.setdefault(event["video_id"], set()).update(
            (event["frame_start"], event["peak_frame"])
        )
    thumbnails: dict[str, dict[int, Thumbnail]] = {}
    for video_id, frames in wanted.items():
        facts = by_id[video_id].facts
        painter.open(video_id, [e["peak_frame"] for e in events if e["video_id"] == video_id])
        thumbnails[video_id] = event_thumbnails(
            Path(facts["path"]) if facts["path"] else None,
            facts["content_id"],
            frames,
            probe=probe,
            use=painter.paint,
        )
        painter.paint_alone()
    return [
        EventView(
            facts=event,
            anchor=anchors.get(event["video_id"]),
            start=thumbnails[event["video_id"]][event["frame_start"]],
            peak=thumbnails[event["video_id"]][event["peak_frame"]],
            labelled=_meets(event, by_id[event["video_id"]].truth),
            heatmaps=painter.views.get((event["video_id"], event["peak_frame"]), ()),
            maps_note=painter.notes.get(event["video_id"], ""),
        )
        for event in events
    ]


class _Painter:
    """Draws the heat-maps of one video after another, on frames as they are decoded.

    Attributes:
        views: (video id, peak frame) -> heat-maps.
        notes: video id -> why it has no heat-maps, or how many are left out.
        written: picture files.
    """

    def __init__(self, maps: Heatmaps, folder: Path | None, max_files: int) -> None:
        self.views: dict[tuple[str, int], list[HeatmapView]] = {}
        self.notes: dict[str, str] = {}
        self.written: set[Path] = set()
        self._maps = maps
        self._folder = folder
        self._max_files = max_files
        self._video_id = ""
        self._wanted: dict[int, list[Heatmap]] = {}
        self._files: set[int] = set()

    def open(self, video_id: str, frames: Sequence[int]) -> None:
        """Read the maps of a video at these frames, the most important first."""
        self._video_id, self._wanted = video_id, {}
        self._files = set(frames[: self._max_files])
        try:
            self._wanted = self._maps.of(video_id, frames)
        except Exception as error:  # whatever is wrong with one file, the page shows it
            self.notes[video_id] = f"No heat-maps. {type(error).__name__}: {error}"
        left_out = max([len(found) - MAPS for found in self._wanted.values()], default=0)
        if left_out > 0:
            self.notes[video_id] = f"Maps that are not drawn: {left_out} (the first {MAPS} are)."

    def paint(self, frame: int, pixels: Pixels, *, alone: bool = False) -> None:
        """Draw the maps of a frame, small for the page and maybe as files."""
        heatmaps = self._wanted.get(frame, [])[:MAPS]
        if not heatmaps:
            return
        style = self._maps.style.model_copy(update={"alpha": 1.0}) if alone else self._maps.style
        small = shrink(pixels, THUMBNAIL)
        self.views[self._video_id, frame] = [
            HeatmapView(h.name, _jpeg(draw_heatmap(small, h, style)), h.low, h.high, alone)
            for h in heatmaps
        ]
        if self._folder is None or frame not in self._files or alone:
            return
        for heatmap in heatmaps:
            path = picture_path(self._folder, self._video_id, frame, heatmap.name)
            write_picture(path, pixels, heatmap, style)
            self.written.add(path)

    def paint_alone(self) -> None:
        """Draw the maps whose frames could not be had, without them."""
        for frame in self._wanted:
            if (self._video_id, frame) not in self.views:
                self.paint(frame, np.zeros((*ALONE, 3), np.uint8), alone=True)


def _meets(event: Mapping[str, Any], truth: Times | None) -> bool | None:
    if truth is None:
        return None
    return any(a < event["frame_stop"] and b > event["frame_start"] for a, b in truth)


def _count_found(
    videos: Sequence[VideoView], events: Sequence[Mapping[str, Any]]
) -> dict[str, int] | None:
    """How many labelled anomalies (in the scored frames) an event meets, and how many events meet
    none; None without labels."""
    truth = {v.facts["video_id"]: v.truth for v in videos if v.truth is not None}
    if not truth:
        return None
    by_video: dict[str, list[Mapping[str, Any]]] = {video_id: [] for video_id in truth}
    for event in events:
        if event["video_id"] in truth:
            by_video[event["video_id"]].append(event)
    inside = [
        (view.facts["video_id"], span)
        for view in videos
        for span in view.truth or ()
        if span[0] < view.facts["frame_stop"] and span[1] > view.facts["frame_start"]
    ]
    return {
        "anomalies": len(inside),
        "met": sum(any(_meets(e, (span,)) for e in by_video[v]) for v, span in inside),
        "events": sum(map(len, by_video.values())),
        "false": sum(not _meets(e, truth[v]) for v, found in by_video.items() for e in found),
    }


def _intervals(metrics: FrameMetrics | None) -> dict[str, str]:
    """Name of a metric -> its bootstrap interval, in words."""
    if metrics is None or metrics.bootstrap is None:
        return {}
    ends = {name: getattr(metrics.bootstrap, name) for name in ("micro_auc", "average_precision")}
    return {name: f"{100 * a:.2f} to {100 * b:.2f} %" for name, (a, b) in ends.items()}


def _roc_points(metrics: FrameMetrics) -> str | None:
    if metrics.roc is None:
        return None
    pairs = zip(metrics.roc.fpr, metrics.roc.tpr, strict=True)
    return " ".join(f"{100 * x:.4g},{100 - 100 * y:.4g}" for x, y in pairs)


# ------------------------------------------------------------------------------- drawing


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


def duration(seconds: float) -> str:
    """A length of time for people: `42 s`, `3.5 min`, `24.0 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:,.1f} h"


def flatten(values: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Nested settings as groups of (dotted name, text) rows; scalars of the top go into "run"."""
    groups: dict[str, list[tuple[str, str]]] = {"run": []}

    def walk(rows: list[tuple[str, str]], prefix: str, value: Any, depth: int) -> None:
        if isinstance(value, Mapping) and value and depth < 6:
            for key, inner in value.items():
                walk(rows, f"{prefix}.{key}" if prefix else str(key), inner, depth + 1)
        elif isinstance(value, list) and not any(isinstance(v, list | Mapping) for v in value):
            more = f" ... and {len(value) - 50} more" if len(value) > 50 else ""
            rows.append((prefix, ", ".join(map(_plain, value[:50])) + more))
        else:
            rows.append((prefix, _plain(value)))

    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            walk(groups.setdefault(key, []), "", value, 0)
        else:
            walk(groups["run"], key, value, 0)
    return [(name, rows) for name, rows in groups.items() if rows]


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 2000 else f"{text[:2000]} ... ({len(text):,} characters)"


# ------------------------------------------------------------------------------- thumbnails


def event_thumbnails(
    path: Path | None,
    content_id: str,
    frames: Iterable[int],
    *,
    probe: Callable[..., ProbeRow] = guarded_probe,
    in_order_frames: int = IN_ORDER_FRAMES,
    use: Callable[[int, Pixels], object] | None = None,
) -> dict[int, Thumbnail]:
    """Small pictures of some frames of a video, decoding little more than these.

    Footage raises nothing: it may have moved or be damaged since it was scored, and the report has
    to say so and go on.

    Args:
        path:
            File or image folder; None where there is no footage.
        content_id:
            Of the footage that was scored; another one at this path gives no pictures.
        frames:
            Frame numbers.
        probe:
            As in `write_report`.
        in_order_frames:
            Frames from here on are not fetched from files that have to be decoded from their start.
        use:
            Called with each frame number and its (H, W, 3) picture, so that no frame is decoded
            twice. A frame comes again only after a `SeekMismatch`; then the last one is right.

    Returns:
        Frame number -> thumbnail, one for each of `frames`.
    """
    found: dict[int, Thumbnail] = {}
    for frame, decoded in _decode(path, content_id, sorted(set(frames)), probe, in_order_frames):
        if isinstance(decoded, str):
            found[frame] = Thumbnail(frame, None, decoded)
            continue
        found[frame] = Thumbnail(frame, _jpeg(decoded))
        if use is not None:
            use(frame, decoded)
    return found


def _decode(
    path: Path | None,
    content_id: str,
    wanted: Sequence[int],
    probe: Callable[..., ProbeRow],
    in_order_frames: int,
) -> Iterator[tuple[int, Pixels | str]]:
    """Each wanted frame with its pixels, or with why it cannot be had."""
    if path is None:
        yield from ((frame, "There is no footage, only imported features") for frame in wanted)
        return
    given: set[int] = set()
    reason = "the file ends before this frame"
    try:
        row = probe(path, hash_mode="full" if content_id.startswith("f1-") else "sampled")
        if row.content_id != content_id:
            raise DecodeError("this is not the file that was scored: it has changed since")
        try:
            for frame, pixels in _fetch(row, wanted, in_order_frames):
                given.add(frame)
                yield frame, pixels
        except SeekMismatch:
            for frame, pixels in _fetch(in_order(row), wanted, in_order_frames):
                given.add(frame)
                yield frame, pixels
    except Exception as error:  # whatever is wrong with one file, the page shows it
        reason = f"{type(error).__name__}: {error}"
    yield from ((frame, reason) for frame in wanted if frame not in given)


def _fetch(
    row: ProbeRow, wanted: Sequence[int], in_order_frames: int
) -> Iterator[tuple[int, Pixels | str]]:
    """The wanted frames (ascending), with as few seeks as it takes."""
    seeks = row.kind == "images" or row.key_frames is not None
    runs: list[list[int]] = []
    for frame in wanted:
        if not seeks and frame >= in_order_frames:
            yield frame, f"only files that allow seeking are read beyond frame {in_order_frames:,}"
        elif runs and (not seeks or frame - runs[-1][-1] <= SAME_SEEK):
            runs[-1].append(frame)
        else:
            runs.append([frame])
    for run in runs:
        with guarded_frames(row, run[0], run[-1] + 1) as decoded:
            for shown in decoded:
                if shown.index in run:
                    yield shown.index, shown.image


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    """An (H, W, 3) picture as a small JPEG in a data URI."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


# ------------------------------------------------------------------------------- template


def _template() -> str:
    return files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "csp_hash": _csp_hash,
        "duration": duration,
        "number": lambda value: f"{value:.4g}",
        "percent": lambda value: f"{100 * value:.2f} %",
        "timecode": timecode,
    }
    return environment


def _csp_hash(text: str) -> str:
    """How a content security policy names one inline style or script."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
