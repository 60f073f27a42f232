"""Render stage: a scored video -> a film with its curve, a cursor, overlays, captions, chapters."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..data_manifests.atomic import write_atomically
from ..data_manifests.choices import choices
from ..data_manifests.plain_text import counted, one_line
from ..extractors.footage.errors import SeekMismatch
from ..extractors.footage.guarded import guarded_frames, guarded_probe
from ..extractors.footage.video import ProbeRow, in_order
from .films.encoder import FORMATS, NAMES, Chapter, Film, FilmError, codec_for, writing
from .films.panel import Panel
from .report.heatmaps import Heatmap, Heatmaps, HeatmapStyle, draw_heatmap
from .report.thumbnails import scored_footage
from .scores.columns import SCORE, events_of, levels_of, own_levels_of
from .scores.folder import ScoreFolder
from .scores.frames import expand_to_runs
from .scores.part import whole_id_of
from .scores.plain_words import general_words
from .scores.regions import Why, why_between

LONGEST, NARROWEST = 1280, 480  # pixels: longest side of a picture, and its least width
LOOKS = 16  # frames that the scale of a map is asked for
BOX, HIGH_BOX, INK = (255, 190, 60), (255, 64, 32), (0, 0, 0)
TEXT = 12
BETWEEN = "no event"  # chapters between those of events
MOST_BOXES = 50  # of a frame, highest scores first
Overlay = Literal["auto", "boxes", "map", "none"]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Rendered:
    """A film that was written.

    Attributes:
        path: the file.
        video_id: of what.
        frames: of it.
        seconds: from its first frame to its last.
        events: that became chapters.
        codec: of the film, in words.
        overlay: what is drawn over the picture: "boxes", "none", or "map NAME".
    """

    path: Path
    video_id: str
    frames: int
    seconds: float
    events: int
    codec: str
    overlay: str

    def lines(self) -> list[str]:
        """What was written, in words."""
        return [
            f"{self.path}: {self.frames:,} frames, {self.seconds:.1f} s, "
            f"{counted(self.events, 'event')} as chapters, {self.codec}; overlay: {self.overlay}",
            "the sound of the footage, if it has any, is left out",
        ]


def render_video(
    score_folder: Path,
    video: str,
    out: Path,
    *,
    column: str = SCORE,
    overlay: Overlay = "auto",
    map_name: str | None = None,
    style: HeatmapStyle | None = None,
    numbers: bool = False,
    probe: Callable[..., ProbeRow] = guarded_probe,
) -> Rendered:
    """Write a film of a scored video: the picture, and below it its score with a moving cursor.

    Frames keep their times, also where the frame rate varies; sound is left out.

    Args:
        score_folder:
            As the score stage wrote it.
        video:
            Its id there, or the path of its file or image folder.
        out:
            The film, `*.mp4` or `*.webm`; a film of that name is replaced.
        column:
            The score column.
        overlay:
            "auto" draws the boxes of the detector, else its first map, else nothing.
        map_name:
            The map, where there are several; None takes the first.
        style:
            How a map is drawn.
        numbers:
            Say scores, and why in the numbers of the detector, in place of words for a guard.
        probe:
            Opens a file, as in `write_report`.

    Raises:
        FilmError: the video was not scored, the name of the film has another end, it would replace
            the footage, or there are no boxes or maps as asked for.
        DecodeError: the footage cannot be read, or is another file now.
        ScoreFolderError: the folder is incomplete or damaged.
        CannotWrite: the disk is full or read-only.
    """
    folder, codec = ScoreFolder(score_folder), codec_for(out)
    row = _row_of(folder, video)
    if not row["path"]:
        raise FilmError(f"{row['video_id']!r} was scored from imported features: it has no footage")
    path = Path(row["path"])
    if os.path.realpath(out) == os.path.realpath(path):
        raise FilmError(f"{out} is the footage itself: name another file")
    notes = folder.notes(row["video_id"])
    source = scored_footage(path, row["content_id"], whole_id_of(notes), probe)
    drawn = _Overlay.of(folder, row, overlay, map_name, style or HeatmapStyle(), column)
    drawn = replace(drawn, numbers=numbers)
    scene = _Scene.of(folder, row, column, _size(source), numbers)
    try:
        film = _write(source, row, out, codec, scene, drawn)
    except SeekMismatch:
        film = _write(in_order(source), row, out, codec, scene, drawn)
    return Rendered(
        *(out, row["video_id"], film.frames, film.seconds, len(scene.events)),
        *(NAMES.get(codec, codec), drawn.name),
    )


def _row_of(folder: ScoreFolder, video: str) -> dict[str, Any]:
    """The row of a video in the table of videos, by its id or its path.

    Raises:
        FilmError: it was not scored.
    """
    rows = folder.videos()
    named = [row for row in rows if row["video_id"] == video]
    if not named:
        where = Path(video).absolute()
        named = [r for r in rows if r["path"] and Path(r["path"]).absolute() == where]
    if len(named) > 1:
        ids = ", ".join(one_line(row["video_id"]) for row in named)
        raise FilmError(f"{video} was scored as {ids}: name one of these")
    if not named:
        known = choices([row["video_id"] for row in rows], video)
        raise FilmError(
            f"{video!r} was not scored: {folder.path} holds {known}; name one of these, or score "
            "it first"
        )
    return named[0]


def _size(source: ProbeRow) -> tuple[int, int]:
    """(height, width) of the picture in the film: even, not tiny, not huge."""
    scale = min(LONGEST / max(source.height, source.width), max(1.0, NARROWEST / source.width))
    height, width = (max(2, round(n * scale / 2) * 2) for n in (source.height, source.width))
    return height, width


@dataclass(frozen=True)
class _Scene:
    """What the panel shows.

    Attributes:
        panel: below the picture.
        size: (height, width) of the picture.
        events: of the video, in the order of time.
    """

    panel: Panel
    size: tuple[int, int]
    events: list[dict[str, Any]]

    @classmethod
    def of(
        cls,
        folder: ScoreFolder,
        row: Mapping[str, Any],
        column: str,
        size: tuple[int, int],
        numbers: bool,
    ) -> _Scene:
        video_id = row["video_id"]
        part, table = folder.scores(video_id, column), folder.regions(video_id)
        windows = part["frame_start"].to_numpy(), part["frame_stop"].to_numpy()
        first, lengths, values = expand_to_runs(*windows, part[column].to_numpy())
        levels = own_levels_of(folder, column).get(video_id, levels_of(folder, column))
        events = [event for event in events_of(folder, column) if event["video_id"] == video_id]
        events.sort(key=lambda event: event["frame_start"])
        general = general_words(folder.run())
        for number, event in enumerate(events, start=1):
            span = event["frame_start"], event["frame_stop"]
            why = Why() if table is None else why_between(table, *span)
            said, reason = f"event {number} of {len(events)}", why.words or general
            if numbers:
                said, reason = f"{said}, peak {event['peak_score']:.4g}", why.explain or ""
            event["said"] = one_line(f"{said}: {reason}" if reason else said)
        high = None if levels is None else levels[0]
        panel = Panel(size[1], first, lengths, values, high, events, video_id, numbers=numbers)
        return cls(panel, size, events)


@dataclass(frozen=True)
class _Written:
    frames: int
    seconds: float


def _write(
    source: ProbeRow,
    row: Mapping[str, Any],
    out: Path,
    codec: str,
    scene: _Scene,
    overlay: _Overlay,
) -> _Written:
    """Write the film; nothing of it stays if it fails."""
    container, _ = FORMATS[out.suffix.lower()]
    size = scene.size[0] + scene.panel.height, scene.size[1]
    written: list[_Written] = []

    def write(place: Path) -> None:
        with (
            writing(place, codec, container, size, source.fps) as film,
            guarded_frames(source, row["frame_start"], row["frame_stop"]) as decoded,
        ):
            times = [_add(film, frame, scene, overlay) for frame in _from_zero(decoded)]
            if not times:
                raise FilmError(f"{source.path} has no frame where it was scored")
            film.end(_chapters(scene.events, row["frame_start"], times, 1 / source.fps))
            written.append(_Written(film.frames, times[-1]))

    write_atomically(out, write)
    return written[-1]


@dataclass(frozen=True)
class _Shown:
    index: int
    at: float  # seconds of the film
    pts: float  # seconds of the footage
    image: Pixels


def _from_zero(decoded: Any) -> Iterator[_Shown]:
    """Frames with times that begin at 0."""
    first = None
    for frame in decoded:
        first = frame.pts if first is None else first
        yield _Shown(frame.index, frame.pts - first, frame.pts, frame.image)


def _add(film: Film, frame: _Shown, scene: _Scene, overlay: _Overlay) -> float:
    height, width = scene.size
    picture = Image.fromarray(frame.image).resize((width, height), Image.Resampling.BILINEAR)
    image = overlay.over(np.asarray(picture), frame.index, frame.image.shape[:2])
    whole = np.concatenate([image, scene.panel.at(frame.index, frame.pts)])
    return film.add(whole, frame.at)


def _chapters(
    events: Sequence[Mapping[str, Any]], first: int, times: Sequence[float], last: float
) -> list[Chapter]:
    """Events as chapters, at the times that their frames have; the last is shown for `last`.

    Chapters of MP4 leave no gaps, so what lies between events is a chapter too.
    """
    found: list[Chapter] = []
    ends = [*times, times[-1] + last]
    at = 0.0
    for event in events:
        start, stop = (
            ends[min(max(event[name] - first, 0), len(times))]
            for name in ("frame_start", "frame_stop")
        )
        if start > at:
            found.append(Chapter(at, start, BETWEEN))
        if stop > max(start, at):
            found.append(Chapter(max(start, at), stop, str(event["said"])))
            at = stop
    if found and at < ends[-1]:
        found.append(Chapter(at, ends[-1], BETWEEN))
    return found


# ------------------------------------------------------------------------------- overlays


@dataclass(frozen=True)
class _Overlay:
    """What is drawn over the picture.

    Attributes:
        name: "boxes", "none" or "map NAME".
        boxes: of `REGION_SCHEMA`, sorted by frame; None draws none.
        hold: frames that the boxes of a frame stay for.
        high: boxes above this score are red.
        maps: where maps are read; None draws none.
        scale: a map with the ends of its colours.
        style: of the map.
        numbers: write the score beside each box.
    """

    name: str
    style: HeatmapStyle
    boxes: pa.Table | None = None
    hold: int = 1
    high: float = np.inf
    maps: Any = None
    scale: Heatmap | None = None
    numbers: bool = False

    @classmethod
    def of(
        cls,
        folder: ScoreFolder,
        row: Mapping[str, Any],
        wanted: Overlay,
        map_name: str | None,
        style: HeatmapStyle,
        column: str,
    ) -> _Overlay:
        """Choose what is drawn.

        Raises:
            FilmError: there is no such thing.
        """
        video_id = row["video_id"]
        if map_name is not None:
            wanted = "map"
        table = folder.regions(video_id) if wanted in ("auto", "boxes") else None
        if table is not None and (table.num_rows or wanted == "boxes"):
            levels = own_levels_of(folder, column).get(video_id, levels_of(folder, column))
            high = np.inf if levels is None else levels[0]
            hold = _hold(table, row["fps"])
            return cls("boxes", style, boxes=table, hold=hold, high=high)
        if wanted == "boxes":
            raise FilmError(
                f"{folder.path} has no boxes of {video_id!r}: leave out --overlay boxes"
            )
        maps = folder.maps(video_id) if wanted in ("auto", "map") else None
        if maps is not None and maps.maps:
            name = map_name or next(iter(maps.maps))
            if name not in maps.maps:
                raise FilmError(f"there is no map {name!r}; there are: {choices(maps.maps, name)}")
            if (scale := _scale(folder, row, name, style)) is not None:
                return cls(f"map {name}", style, maps=maps, scale=scale)
        if wanted == "map":
            raise FilmError(f"{folder.path} has no maps of {video_id!r}: leave out --overlay map")
        return cls("none", style)

    def over(self, pixels: Pixels, frame: int, size: tuple[int, ...]) -> Pixels:
        """A picture with the overlay of a frame; `size` is (height, width) of the footage."""
        if self.boxes is not None:
            return self._boxed(pixels, frame, size)
        if self.maps is None or self.scale is None:
            return pixels
        values = self.maps.at(self.scale.name, frame)
        return draw_heatmap(pixels, replace(self.scale, values=values), self.style)

    def _boxed(self, pixels: Pixels, frame: int, size: tuple[int, ...]) -> Pixels:
        assert self.boxes is not None
        frames = self.boxes["frame"].to_numpy()
        stop = int(np.searchsorted(frames, frame, side="right"))
        if not stop or frame - frames[stop - 1] >= self.hold:
            return pixels
        start = int(np.searchsorted(frames, frames[stop - 1], side="left"))
        rows = self.boxes.slice(start, stop - start).to_pylist()
        rows.sort(key=lambda box: -box["score"])
        image = Image.fromarray(pixels)
        pen, font = ImageDraw.Draw(image), ImageFont.load_default(TEXT)
        down, along = pixels.shape[0] / size[0], pixels.shape[1] / size[1]
        for box in reversed(rows[:MOST_BOXES]):  # the highest one is drawn last
            corners = [box["x0"] * along, box["y0"] * down, box["x1"] * along, box["y1"] * down]
            limits = [pixels.shape[1] - 1, pixels.shape[0] - 1] * 2
            x0, y0, x1, y1 = (
                round(min(max(c, 0), limit)) for c, limit in zip(corners, limits, strict=True)
            )
            colour = HIGH_BOX if box["score"] > self.high else BOX
            pen.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=colour, width=2)
            score = f" {box['score']:.3g}" if self.numbers else ""
            said = f"{one_line(box['label'] or '')}{score}".strip()
            if not said:
                continue
            top = y0 - TEXT - 4 if y0 > TEXT + 4 else y0 + 2
            pen.rectangle(
                (x0, top, x0 + pen.textlength(said, font=font) + 3, top + TEXT + 3), colour
            )
            pen.text((x0 + 2, top), said, fill=INK, font=font)
        return np.asarray(image)


def _hold(table: pa.Table, fps: float) -> int:
    """Frames from one look for boxes to the next, at most a second."""
    steps = np.diff(np.unique(table["frame"].to_numpy()))
    return int(min(steps.min() if len(steps) else 1, max(1, round(fps))))


def _scale(
    folder: ScoreFolder, row: Mapping[str, Any], name: str, style: HeatmapStyle
) -> Heatmap | None:
    """A map with the ends of its colours, as far as some frames know them."""
    own = HeatmapStyle.model_validate({**style.model_dump(), "scale": "video"})
    frames = np.linspace(row["frame_start"], row["frame_stop"] - 1, LOOKS).round().astype(int)
    found = Heatmaps(folder.path, [row["video_id"]], own).of(row["video_id"], frames.tolist())
    return next((m for maps in found.values() for m in maps if m.name == name), None)
