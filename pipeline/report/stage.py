"""Report stage: a score folder -> one HTML file that needs nothing else.

The file makes no request: style, script, curves (SVG), thumbnails and heat-maps (JPEG) are inline,
and its content security policy names the only style and script that may run. Names, paths and
messages from footage are untrusted text; the template escapes them.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from ...data_manifests.atomic import write_text
from ...data_manifests.plain_text import plain
from ...data_manifests.record import Manifest
from ...extractors.footage.guarded import guarded_probe
from ...extractors.footage.video import ProbeRow
from ..metrics.results import FrameMetrics
from ..scores.columns import SCORE, events_of, limit_of
from ..scores.folder import PAGE, ScoreFolder, ScoreFolderError
from ..scores.limit import Limit
from ..scores.moments import MOST_OF_VIDEO, top_moments
from ..scores.part import whole_id_of
from .about import about_metrics, about_run, duration
from .boxes import EventBoxes
from .curves import HEIGHT, WIDTH, Times, VideoView, draw, timecode
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
from .thumbnails import THUMBNAIL, Pixels, Thumbnail, event_thumbnails, jpeg

MAPS = 6  # most heat-maps of one event
FILLED, LEAST_MOMENTS = 24, 6  # events and moments below them; moments where there are many events
# What a user does about too few events.
LOWER = "vadpipe threshold MODEL --quantile Q (or --budget N) chooses another one, then score again"
ALONE = (144, 256)  # height, width of a heat-map without a frame below it


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
    """One event: its row in the table of events, pictures, and whether it meets a labelled anomaly.

    `maps_note` says why it has no heat-maps, or how many are left out; `boxes_note` how many boxes
    there are. `above` says of a moment whether it is above the threshold; None of an event.
    """

    facts: Mapping[str, Any]
    anchor: str | None
    start: Thumbnail
    peak: Thumbnail
    labelled: bool | None
    heatmaps: Sequence[HeatmapView] = ()
    maps_note: str = ""
    boxes_note: str = ""
    above: bool | None = None


def write_report(
    score_folder: Path,
    out: Path | None = None,
    *,
    manifest: Manifest | None = None,
    column: str = SCORE,
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
            As the score stage wrote it; metrics are shown where evaluate has measured them.
        out:
            The file to write (`*.html`), or a folder for it; None writes into the score folder.
        manifest:
            Where labelled anomalies come from.
        column:
            The score column to show. Events of another one than "score" are found with a threshold
            from the held-out rows.
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
            `heatmaps/<video_id>/<frame>_<map>.png` next to the page, and delete those of an earlier
            page there.
        max_heatmap_files:
            Events of a video that get such files, highest peaks first.
        probe:
            Opens a file; a caller that has probed before can answer from its table. Called with a
            path and `hash_mode`.

    Returns:
        The file written.

    Raises:
        ScoreFolderError: the folder is incomplete or damaged, or contradicts itself.
        MetricsError: its metrics are not what evaluate writes.
    """
    folder, style = ScoreFolder(score_folder), style or HeatmapStyle()
    run, rows, failures = folder.run(), folder.videos(), folder.failures()
    events, limit = events_of(folder, column), limit_of(folder, column)
    extra = folder.metrics(column)
    metrics = None if extra is None else FrameMetrics.from_json(extra)
    truth = truth_of(manifest)
    events.sort(key=lambda e: (-e["peak_score"], e["video_id"], e["frame_start"]))
    videos = _view_videos(folder, rows, events, truth, metrics, column)
    drawn = draw(folder, videos[:max_videos], events, limit, column)
    anchors = {view.facts["video_id"]: view.anchor for view in drawn}
    path = folder.page if out is None else out
    path = path if path.suffix.lower() == ".html" else path / PAGE
    pictures = path.parent / "heatmaps" if heatmap_files else None
    maps = Heatmaps(score_folder, [row["video_id"] for row in rows], style)
    painter = _Painter(maps, pictures, max_heatmap_files)
    moments = top_moments(folder, column, events, most=n_moments(len(events), max_events))
    shown = _view_events([*events[:max_events], *moments], videos, anchors, painter, folder, probe)
    shown, unusual = shown[: len(shown) - len(moments)], shown[len(shown) - len(moments) :]
    if pictures is not None:
        remove_pictures(pictures, painter.written)
    page = (
        _environment()
        .from_string(_template())
        .render(
            **about_run(run, folder, limit, column, manifest),
            **about_metrics(metrics, extra or {}),
            videos=videos[:max_rows],
            n_videos=len(videos),
            drawn=drawn,
            events=shown,
            **_about_moments(unusual, limit),
            n_events=len(events),
            failures=failures[:max_rows],
            n_failures=len(failures),
            failed=len({failure["video_id"] for failure in failures}),
            seconds=sum(view.seconds for view in videos),
            found=_count_found(videos, events),
            width=WIDTH,
            height=HEIGHT,
            drawing=style,
            damaged_maps=maps.damaged,
            colours=jpeg(colour_bar(style, (12, 200))) if painter.views else "",
        )
    )
    write_text(path, page)
    return path


# ------------------------------------------------------------------------------- views


def _view_videos(
    folder: ScoreFolder,
    rows: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    truth: Mapping[str, Times],
    metrics: FrameMetrics | None,
    column: str,
) -> list[VideoView]:
    """All videos, highest score first."""
    counts = Counter(event["video_id"] for event in events)
    measured = {} if metrics is None else {row.video_id: row for row in metrics.videos}
    frames = {row["video_id"]: row["frame_stop"] - row["frame_start"] for row in rows}
    if any(frames.get(video_id) != own.n_frames for video_id, own in measured.items()):
        raise ScoreFolderError(
            f"{folder.metrics_of(column).name} in {folder.path} is about other videos: run "
            "evaluate again"
        )
    views = []
    for number, row in enumerate(rows):
        fps, video_id = row["fps"], row["video_id"]
        if not (math.isfinite(fps) and fps > 0):
            raise ScoreFolderError(
                f"video {video_id!r} has {fps} frames per second: run score again"
            )
        own = measured.get(video_id)
        views.append(
            VideoView(
                anchor=f"v{number}",
                facts=row,
                seconds=(row["frame_stop"] - row["frame_start"]) / fps,
                highest=float(np.max(folder.scores(video_id, column)[column].to_numpy())),
                events=counts[video_id],
                truth=truth.get(video_id),
                auc=None if own is None else own.auc,
                n_abnormal=None if own is None else own.n_abnormal,
            )
        )
    return sorted(views, key=lambda view: (-view.highest, view.facts["video_id"]))


def _view_events(
    events: Sequence[Mapping[str, Any]],
    videos: Sequence[VideoView],
    anchors: Mapping[str, str],
    painter: _Painter,
    folder: ScoreFolder,
    probe: Callable[..., ProbeRow],
) -> list[EventView]:
    by_id, boxes = {view.facts["video_id"]: view for view in videos}, EventBoxes(folder)
    wanted: dict[str, set[int]] = {}
    for event in events:
        if event["video_id"] not in by_id:
            raise ScoreFolderError(
                f"the table of events names {event['video_id']!r}, the table of videos does not: "
                "run score again"
            )
        wanted.setdefault(event["video_id"], set()).update(
            (event["frame_start"], event["peak_frame"])
        )
    thumbnails: dict[str, dict[int, Thumbnail]] = {}
    for video_id, frames in wanted.items():
        facts = by_id[video_id].facts
        own = [event for event in events if event["video_id"] == video_id]
        painter.open(video_id, [event["peak_frame"] for event in own])
        boxes.open(video_id, own)
        thumbnails[video_id] = event_thumbnails(
            Path(facts["path"]) if facts["path"] else None,
            facts["content_id"],
            frames,
            whole_id=whole_id_of(folder.notes(video_id)),
            probe=probe,
            use=painter.paint,
            draw=boxes.draw,
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
            boxes_note=boxes.notes.get((event["video_id"], event["peak_frame"]), ""),
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
        except Exception as error:  # a damaged file must not stop the page: it shows the error
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
            HeatmapView(h.name, jpeg(draw_heatmap(small, h, style)), h.low, h.high, alone)
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


def truth_of(manifest: Manifest | None) -> dict[str, Times]:
    """video_id -> labelled anomalies, of the videos that have labels of frames."""
    records = () if manifest is None else manifest.records
    return {r.video_id: r.anomalies for r in records if r.anomalies is not None}


def n_moments(events: int, most: int) -> int:
    """How many moments a page shows beside so many events, of which it shows at most `most`."""
    return min(most, max(FILLED - events, LEAST_MOMENTS))


def _about_moments(moments: Sequence[EventView], limit: Limit | None) -> dict[str, Any]:
    """What the page says of moments that are no events."""
    facts = [view.facts for view in moments]
    above = [limit is not None and f["peak_score"] > limit.of(f["video_id"]) for f in facts]
    return {
        "fewer": LOWER,
        "most_of_video": MOST_OF_VIDEO,
        "moments": [replace(v, above=is_so) for v, is_so in zip(moments, above, strict=True)],
    }


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


# ------------------------------------------------------------------------------- template


def _template() -> str:
    return files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # A name may turn the direction of the text after it around.
        finalize=lambda value: plain(value) if type(value) is str else value,
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
