"""The command about films of scored footage: render."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .names import column_names, map_names, scored_videos
from .options import FOLDER, OUT_FILE, echo, json_option, set_option
from .outcome import outcome


@click.command()
@click.argument("scores", type=FOLDER)
@click.argument("video", shell_complete=scored_videos)
@click.option(
    "-o",
    "--out",
    type=OUT_FILE,
    required=True,
    metavar="FILE",
    help="The film: .mp4 (H.264 where this machine has an encoder for it), or .webm (VP9).",
)
@click.option(
    "--column",
    shell_complete=column_names,
    default="score",
    metavar="NAME",
    help="Score column to show; see docs/score.md.",
)
@click.option(
    "--overlay",
    type=click.Choice(["auto", "boxes", "map", "none"]),
    default="auto",
    help="Over the picture. auto: the boxes of the detector, else its first map.",
)
@click.option(
    "--map",
    "map_name",
    shell_complete=map_names,
    metavar="NAME",
    help="The map, where there are several.",
)
@click.option(
    "--numbers", is_flag=True, help="Scores, and why in numbers, in place of words for a guard."
)
@set_option
@json_option
def render(
    scores: Path,
    video: str,
    out: Path,
    column: str,
    overlay: Any,
    map_name: str | None,
    numbers: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write a film of a scored video: picture, score curve with a cursor, events as chapters.

    SCORES is a score folder, VIDEO the id of a video there, or the path of its file. --set changes
    the style of the map, as in report. The sound is left out.

    \b
    Example:
        vadpipe render out gate__2.mp4 -o gate.mp4
        vadpipe render out /archive/gate/2.mp4 -o gate.webm --overlay map
    """
    from ..render import render_video
    from ..report.heatmaps import HeatmapStyle
    from ..run.key_value import parse_settings

    style = HeatmapStyle.model_validate(parse_settings(settings))
    shown = {"overlay": overlay, "map_name": map_name, "style": style, "numbers": numbers}
    done = render_video(scores, video, out, column=column, **shown)
    facts: dict[str, Any] = {
        "video_id": done.video_id,
        "seconds": done.seconds,
        "codec": done.codec,
    }
    counts = {"frames": done.frames, "events": done.events}
    values = outcome([done.path], counts, **facts, overlay=done.overlay)
    echo(done.lines(), values, as_json)
