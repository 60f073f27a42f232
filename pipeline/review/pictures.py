"""The pictures, clips, heat-maps and boxes of the moments that get some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from ...data_manifests.settings import Settings
from ...extractors.footage.video import ProbeRow
from ..engine.progress import progress_bar
from ..report.heatmaps import Heatmap, Heatmaps, HeatmapStyle, draw_heatmap, shrink
from ..report.thumbnails import Pixels
from ..scores.folder import ScoreFolder
from ..scores.part import whole_id_of
from ..scores.regions import boxes_near
from .previews import PICTURE, Preview, Shot, clip_span, draw_previews, write_jpeg

MAPS, BOXES = 4, 50  # most of one moment
ALONE = (270, 480)  # height, width of a heat-map without a frame below it


class Limits(Settings):
    """How much a review page holds beside scores and events; the highest peaks come first.

    Attributes:
        pictures: moments that get a picture, with maps and boxes.
        clips: moments that get a short clip.
        clip_seconds: the longest clip.
        moments: moments that are no events.
        similar: events and moments that are compared with one another.
    """

    pictures: int = Field(default=300, ge=0, le=10_000)
    clips: int = Field(default=100, ge=0, le=10_000)
    clip_seconds: float = Field(default=8.0, gt=0.0, le=60.0)
    moments: int = Field(default=50, ge=0, le=10_000)
    similar: int = Field(default=2000, ge=0, le=10_000)


@dataclass(frozen=True)
class _Wanted:
    number: int
    event: Mapping[str, Any]
    clip: bool


def draw_media(
    folder: ScoreFolder,
    rows: Sequence[Mapping[str, Any]],
    numbers: Mapping[str, int],
    ranked: Sequence[Mapping[str, Any]],
    out: Path,
    limits: Limits,
    style: HeatmapStyle,
    probe: Callable[..., ProbeRow],
    first: int = 0,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Write the files of the highest moments.

    Args:
        folder:
            The score folder.
        rows:
            Its table of videos.
        numbers:
            video_id -> its number in the page.
        ranked:
            Events and moments, highest peak first.
        out:
            For the files: `N.jpg`, `N-K.jpg` (with map K) and `N.webm`.
        limits:
            How many.
        style:
            Of heat-maps.
        probe:
            Opens a file, as in `write_report`.
        first:
            Number of the first file.

    Returns:
        What the page says of each moment, in the order of `ranked`, and notes for the user.

    Raises:
        ScoreFolderError: the table of events names videos that the table of videos does not.
        CannotWrite: the disk is full or read-only.
    """
    maps = Heatmaps(folder.path, [row["video_id"] for row in rows], style)
    by_video: dict[str, list[_Wanted]] = {}
    for place, event in enumerate(ranked[: limits.pictures]):
        wanted = _Wanted(first + place, event, place < limits.clips)
        by_video.setdefault(event["video_id"], []).append(wanted)
    facts = {row["video_id"]: row for row in rows}
    found: dict[int, dict[str, Any]] = {}
    with progress_bar("pictures and clips", sum(map(len, by_video.values()))) as advance:
        for video_id, own in by_video.items():
            drawing = _Drawing(folder, facts[video_id], maps, out, limits)
            for each, values in drawing.draw(own, probe):
                found[each.number] = {"video": numbers[video_id], **values}
            advance(len(own))
    notes = [f"Score maps are left out of the colours: {why}." for why in maps.damaged.values()]
    if len(ranked) > limits.pictures:
        notes.append(
            f"The {limits.pictures:,} highest of {len(ranked):,} events and moments have pictures, "
            f"{min(limits.clips, limits.pictures):,} of them a clip"
        )
    return [found[number] for number in sorted(found)], notes


class _Drawing:
    """The moments of one video."""

    def __init__(
        self,
        folder: ScoreFolder,
        row: Mapping[str, Any],
        maps: Heatmaps,
        out: Path,
        limits: Limits,
    ) -> None:
        self._folder, self._row, self._out = folder, row, out
        self._maps, self._limits = maps, limits
        self._wanted: dict[int, list[Heatmap]] = {}
        self._drawn: dict[int, list[dict[str, Any]]] = {}

    def draw(
        self, wanted: Sequence[_Wanted], probe: Callable[..., ProbeRow]
    ) -> list[tuple[_Wanted, dict[str, Any]]]:
        """Write their files; returns what the page says of each."""
        row, video_id = self._row, self._row["video_id"]
        why = self._read_maps(video_id, wanted)
        previews = draw_previews(
            Path(row["path"]) if row["path"] else None,
            row["content_id"],
            whole_id_of(self._folder.notes(video_id)),
            [self._shot(each) for each in wanted],
            self._out,
            probe=probe,
            use=self._paint,
        )
        for number in self._wanted:
            if number not in self._drawn:  # the frame could not be had
                self._paint(number, np.zeros((*ALONE, 3), np.uint8), alone=True)
        boxes = self._boxes(video_id, wanted)
        return [
            (each, self._about(each, previews[each.number], boxes[each.number], why))
            for each in wanted
        ]

    def _shot(self, wanted: _Wanted) -> Shot:
        event, row = wanted.event, self._row
        peak = event["peak_frame"]
        if not wanted.clip:
            return Shot(wanted.number, peak, peak, peak)
        start, stop = clip_span(
            event["frame_start"],
            event["frame_stop"],
            peak,
            row["fps"],
            row["n_frames"],
            self._limits.clip_seconds,
        )
        return Shot(wanted.number, peak, start, stop)

    def _read_maps(self, video_id: str, wanted: Sequence[_Wanted]) -> str:
        try:
            found = self._maps.of(video_id, [each.event["peak_frame"] for each in wanted])
        except Exception as error:  # a damaged file must not stop the page: it shows the error
            return f"No heat-maps. {type(error).__name__}: {error}"
        self._wanted = {each.number: found[each.event["peak_frame"]][:MAPS] for each in wanted}
        return ""

    def _paint(self, number: int, pixels: Pixels, *, alone: bool = False) -> None:
        style = self._maps.style.model_copy(update={"alpha": 1.0}) if alone else self._maps.style
        self._drawn[number] = []
        heatmaps = self._wanted.get(number, [])
        small = shrink(pixels, PICTURE) if heatmaps else pixels
        for k, heatmap in enumerate(heatmaps):
            write_jpeg(self._out / f"{number}-{k}.jpg", draw_heatmap(small, heatmap, style))
            facts = {"name": heatmap.name, "low": heatmap.low, "high": heatmap.high}
            self._drawn[number].append({**facts, "alone": alone})

    def _boxes(
        self, video_id: str, wanted: Sequence[_Wanted]
    ) -> dict[int, tuple[list[list[Any]], str]]:
        try:
            table = self._folder.regions(video_id)
        except Exception as error:  # a damaged file must not stop the page: it shows the error
            return {each.number: ([], f"No boxes. {error}") for each in wanted}
        found: dict[int, tuple[list[list[Any]], str]] = {}
        for each in wanted:
            event = each.event
            found[each.number] = ([], "")
            if table is None:
                continue
            peak = event["peak_frame"]
            frame, boxes = boxes_near(table, peak, event["frame_start"], event["frame_stop"])
            shown = boxes.slice(0, BOXES).to_pylist()
            values = [
                [*(b[name] for name in ("x0", "y0", "x1", "y1", "score")), b["label"] or ""]
                for b in shown
            ]
            where = f"Boxes of frame {frame}, the nearest to the peak." if frame != peak else ""
            found[each.number] = (values, where)
        return found

    def _about(
        self, wanted: _Wanted, preview: Preview, boxes: tuple[list[list[Any]], str], why: str
    ) -> dict[str, Any]:
        maps = self._drawn.get(wanted.number, [])
        return {
            "frame": wanted.event["peak_frame"],
            "picture": preview.picture,
            "size": list(preview.size),
            "clip": None if preview.clip is None else list(preview.clip),
            "reason": preview.reason,
            "maps": maps,
            "maps_note": why,
            "boxes": boxes[0],
            "boxes_note": boxes[1],
        }
