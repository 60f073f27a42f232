"""Export stage: a score folder -> its events in files of other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...data_manifests.atomic import write_text
from ...data_manifests.choices import choices
from ..scores.columns import SCORE
from ..scores.folder import ScoreFolder
from .csv_table import write_csv
from .cvat import write_cvat
from .elan import write_elan
from .fiftyone import write_fiftyone
from .json_list import write_json
from .label_studio import write_label_studio
from .videos import ExportError, VideoEvents, read_videos
from .webvtt import write_webvtt

Writer = Callable[[Sequence[VideoEvents], str | None], Iterator[tuple[str, str]]]

FORMATS: dict[str, Writer] = {
    "csv": write_csv,
    "cvat": write_cvat,
    "elan": write_elan,
    "fiftyone": write_fiftyone,
    "json": write_json,
    "label_studio": write_label_studio,
    "webvtt": write_webvtt,
}
"""Name -> (videos, address of the footage) -> names and texts of the files."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: in order of formats and videos.
        videos: of the score folder.
        events: of all videos.
    """

    files: tuple[Path, ...]
    videos: int
    events: int


def export_events(
    scores: Path,
    out: Path,
    formats: Sequence[str],
    *,
    column: str = SCORE,
    media: str | None = None,
) -> Exported:
    """Write the events of a score folder in one or several formats.

    Args:
        scores:
            The score folder; it is only read.
        out:
            Folder for a subfolder of each format. Files of the same name are replaced, other files
            stay.
        formats:
            Names in `FORMATS`.
        column:
            Score column whose events are taken.
        media:
            Address of the folder that serves the footage, for programs in a browser; None takes
            the paths of the score folder.

    Raises:
        ExportError: there is no such format, or videos lack what it needs.
        ScoreFolderError: the folder is no score folder, or is damaged.
        HeldOutError: the held-out rows are damaged.
        OSError: a file cannot be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ExportError(f"there is no format {unknown[0]!r}: {choices(FORMATS, *unknown)}")
    videos = read_videos(ScoreFolder(scores), column)
    # A format that cannot be written leaves none half-written.
    texts = {name: list(FORMATS[name](videos, media)) for name in dict.fromkeys(formats)}
    written = []
    for name, files in texts.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files:
            write_text(folder / file, text)
            written.append(folder / file)
    return Exported(tuple(written), len(videos), sum(len(video.events) for video in videos))
