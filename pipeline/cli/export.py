"""The command that writes events for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from ...data_manifests.plain_text import counted
from .names import column_names
from .options import FOLDER, OUT, echo, json_option
from .outcome import outcome

NAMES = ("csv", "cvat", "elan", "fiftyone", "json", "label_studio", "webvtt")


@click.command()
@click.argument("scores", type=FOLDER)
@click.option(
    "-f",
    "--format",
    "formats",
    type=click.Choice(NAMES),
    multiple=True,
    help="What to write; may be given several times. Without it all formats.",
)
@click.option(
    "-o",
    "--out",
    type=OUT,
    required=True,
    metavar="DIR",
    help="Folder; each format has a subfolder of its own.",
)
@click.option(
    "--column",
    shell_complete=column_names,
    default="score",
    metavar="NAME",
    help="Score column with the events.",
)
@click.option(
    "--media",
    metavar="URL",
    help="Address of the folder that serves the footage, for programs in a browser. Without it "
    "the paths of the footage.",
)
@json_option
def export(
    scores: Path,
    formats: tuple[str, ...],
    out: Path,
    column: str,
    media: str | None,
    as_json: bool,
) -> None:
    """Write the events of a score folder for other programs.

    SCORES is a score folder.

    \b
    csv           a table for spreadsheets
    cvat          CVAT for video 1.1, one file a video
    elan          ELAN, one file a video
    fiftyone      FiftyOne temporal detections
    json          everything, for programs of your own
    label_studio  tasks with pre-annotations
    webvtt        chapters for players, one file a video

    \b
    Example:
        vadpipe export out -f webvtt -f csv -o events
    """
    from ..exports.stage import export_events

    done = export_events(scores, out, formats or NAMES, column=column, media=media)
    events, videos = counted(done.events, "event"), counted(done.videos, "video")
    line = f"{events} of {videos}, {counted(len(done.files), 'file')}: {out}"
    counts = {"videos": done.videos, "events": done.events}
    files = [str(path) for path in done.files]
    echo([line], outcome(files, counts) | counts | {"files": files}, as_json)
