"""Labelled regions of videos: boxes with track numbers, in one file or one file for each video.

Four forms are read:

- a CSV of many videos, which `write_tracks` writes, with the header
  `video_id,track_id,frame,x0,y0,x1,y1`;
- a CSV of one video with the header `track_id,frame,x0,y0,x1,y1` (the drawn scene);
- text of one video without a header, as published for ShanghaiTech by the authors of AED: the same
  six numbers, but x1 and y1 are the last pixels of the box. They are raised by one;
- text of one video without a header, as Ramachandra and Jones publish it for Street Scene, Ped2 and
  Avenue: the name of the picture, the track, and a box by centre, width and height. The name is the
  number of the frame, from 1. That the place is the centre is how public programs read these files.

Frames are counted from 0 in the whole file; x1 and y1 are one past the box.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .atomic import write_text
from .plain_text import plain
from .record import ID_PATTERN, IMAGE_SUFFIXES, Manifest, ManifestError, VideoRecord

logger = logging.getLogger(__name__)

COLUMNS = ("track_id", "frame", "x0", "y0", "x1", "y1")
MANY = ("video_id", *COLUMNS)
SUFFIXES = (".csv", ".txt")
OUTSIDE = 0.25  # share of a side; a box by its centre lies within its picture, up to rounding
TRACK_BYTES = 1 << 28  # ShanghaiTech's 18,937 regions take 0.5 MB


@dataclass(frozen=True)
class Tracks:
    """The labelled regions of one video, sorted by track and frame.

    Attributes:
        track_id: (n,) int64.
        frame: (n,) int64, from 0, of the whole file.
        box: (n, 4) float64: x0, y0, x1, y1 in pixels of the video, x1 and y1 one past the box.
    """

    track_id: NDArray[np.int64]
    frame: NDArray[np.int64]
    box: NDArray[np.float64]

    @classmethod
    def from_rows(cls, rows: NDArray[Any]) -> Tracks:
        """Sort and check rows of `COLUMNS`, (n, 6); rows of one track and frame keep their order.

        Raises:
            ManifestError: a track or frame is negative or has a fraction, a number is not finite,
                or a box is empty.
        """
        values = np.asarray(rows, np.float64).reshape(-1, 6)
        if not np.isfinite(values).all():
            raise ManifestError("a number is not finite")
        if (values[:, :2] != np.floor(values[:, :2])).any() or (values[:, :2] < 0).any():
            raise ManifestError("track_id and frame have to be whole numbers of 0 or more")
        if (values[:, 4:] <= values[:, 2:4]).any():
            raise ManifestError("each box needs x0 < x1 and y0 < y1, but one is empty")
        values = values[np.lexsort((values[:, 1], values[:, 0]))]
        return cls(values[:, 0].astype(np.int64), values[:, 1].astype(np.int64), values[:, 2:])

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def n_tracks(self) -> int:
        """How many tracks there are."""
        return len(np.unique(self.track_id))

    def between(self, start: int, stop: int) -> Tracks:
        """The regions of the frames [start, stop)."""
        kept = (self.frame >= start) & (self.frame < stop)
        return Tracks(self.track_id[kept], self.frame[kept], self.box[kept])


@dataclass(frozen=True)
class TrackFile:
    """The tracks of many videos.

    Attributes:
        tracks: video id -> its regions; a video may be known to have none.
        source: where they come from, for people.
        sha256: of the file that `write_tracks` writes of them, so it does not depend on the form
            that they were read in.
    """

    tracks: Mapping[str, Tracks]
    source: str
    sha256: str


def write_tracks(path: Path, tracks: Mapping[str, Tracks]) -> TrackFile:
    """Write the tracks of many videos into one CSV; it appears whole or not at all.

    Videos without regions are not in the file.

    Raises:
        ManifestError: the name does not end with .csv.
        CannotWrite: the disk is full or read-only.
    """
    if path.suffix.lower() != ".csv":
        raise ManifestError(f"tracks are written as a .csv file, not {path.name!r}")
    text = _text(tracks)
    write_text(path, text)
    return TrackFile(tracks, str(path), _sha256(text))


def read_tracks(path: Path) -> TrackFile:
    """Read the tracks of many videos: a CSV of all, or a folder with a file for each.

    Args:
        path:
            The CSV, or a folder of `<video_id>.csv` or `<video_id>.txt`; `_gt` may follow the id.

    Raises:
        ManifestError: there is no such file, or it has no tracks or cannot be read; the message
            names the file and the row.
    """
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise ManifestError(f"{path} holds no track file (VIDEO_ID.csv or VIDEO_ID.txt)")
        return _track_file(
            {p.stem.removesuffix("_gt"): read_video_tracks(p) for p in files}, str(path)
        )
    header, rows = _lines(path)
    if header != MANY:
        raise ManifestError(
            f"{path} has to start with the header {','.join(MANY)}; for files of one video each, "
            "give their folder"
        )
    by_video: dict[str, list[list[str]]] = {}
    for row in rows:
        if len(row) != len(MANY) or not ID_PATTERN.fullmatch(row[0]):
            raise ManifestError(f"{path}: {','.join(row)[:80]!r} is not {','.join(MANY)}")
        by_video.setdefault(row[0], []).append(row[1:])
    tracks = {name: _tracks(path, found, last=0) for name, found in by_video.items()}
    return _track_file(tracks, str(path))


def read_video_tracks(path: Path) -> Tracks:
    """Read the tracks of one video, with or without a header; an empty file has none.

    Raises:
        ManifestError: there is no such file, or it cannot be read.
    """
    header, rows = _lines(path)
    if header not in ((), COLUMNS):
        raise ManifestError(f"{path}: the header is {','.join(header)}, not {','.join(COLUMNS)}")
    if rows and rows[0][0].lower().endswith(IMAGE_SUFFIXES):
        found = _tracks(path, [_of_picture(path, row) for row in rows], last=0)
        _warn_of_corners(path, found)
        return found
    return _tracks(path, rows, last=0 if header else 1)


def manifest_tracks(manifest: Manifest, records: Iterable[VideoRecord]) -> TrackFile | None:
    """The tracks that a manifest names for some of its videos; None where it names none.

    Raises:
        ManifestError: a file is missing or cannot be read.
    """
    named = {r.video_id: r.tracks for r in records if r.tracks is not None}
    if not named:
        return None
    tracks = {name: read_video_tracks(manifest.resolve(path)) for name, path in named.items()}
    return _track_file(tracks, f"tracks of the manifest {manifest.dataset}")


def _track_file(tracks: Mapping[str, Tracks], source: str) -> TrackFile:
    return TrackFile(tracks, source, _sha256(_text(tracks)))


def _text(tracks: Mapping[str, Tracks]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(MANY)
    for video_id in sorted(tracks):
        own = tracks[video_id]
        for track, frame, box in zip(
            own.track_id.tolist(), own.frame.tolist(), own.box.tolist(), strict=True
        ):
            writer.writerow((video_id, track, frame, *map(_number, box)))
    return out.getvalue()


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _lines(path: Path) -> tuple[tuple[str, ...], list[list[str]]]:
    """The header of a file, () where it has none, and its rows."""
    if not path.is_file():
        raise ManifestError(f"{path} does not exist: get the track files of the data set")
    if path.stat().st_size > TRACK_BYTES:
        raise ManifestError(f"{path} is larger than {TRACK_BYTES} bytes: it holds no tracks")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not text in UTF-8: {error}") from error
    rows = [
        [cell.strip() for cell in line.split(",")] if "," in line else line.split()
        for line in text.splitlines()
        if line.strip()
    ]
    if rows and "track_id" in rows[0]:
        return tuple(rows[0]), rows[1:]
    return (), rows


def _of_picture(path: Path, row: list[str]) -> list[str]:
    """A row with a picture's name, track, and centre, width and height, as a row of `COLUMNS`."""
    try:
        name, track, *place = row
        x, y, width, height = map(float, place)
        frame = int(PurePosixPath(name).stem) - 1
    except ValueError as error:
        raise ManifestError(
            f"{path}: {' '.join(row)[:80]!r} is not a picture's name, track, x, y, width, height"
        ) from error
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return [track, str(frame), *map(repr, box)]


def _warn_of_corners(path: Path, tracks: Tracks) -> None:
    """Warn of boxes that would begin far outside of the picture: their places may be corners."""
    outside = (tracks.box[:, :2] < -OUTSIDE * (tracks.box[:, 2:] - tracks.box[:, :2])).any(axis=1)
    if outside.any():
        logger.warning(
            "%s: with its place as the centre of the box, %d of %d boxes begin outside of the "
            "picture. If these files give the upper left corner, region metrics will be wrong: "
            "compare a box with its picture",
            *(plain(str(path)), int(outside.sum()), len(tracks)),
        )


def _tracks(path: Path, rows: list[list[str]], *, last: int) -> Tracks:
    """Rows of numbers as tracks; `last` is added to x1 and y1."""
    for number, row in enumerate(rows, start=1):
        if len(row) != len(COLUMNS):
            raise ManifestError(
                f"{path}, row {number} has {len(row)} values, not {', '.join(COLUMNS)}"
            )
    try:
        values = np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS))
        values[:, 4:] += last
        return Tracks.from_rows(values)
    except ValueError as error:  # also a ManifestError of Tracks
        raise ManifestError(f"{path}: {error}") from error
