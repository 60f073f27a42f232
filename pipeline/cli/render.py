"""The command about films of scored footage: render."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import FOLDER, OUT_FILE, put, set_option


@click.command()
@click.argument("scores", type=FOLDER)
@click.argument("video")
@click.option(
    "-o",
    "--out",
    type=OUT_FILE,
    required=True,
    metavar="FILE",
    help="The film: .mp4 (H.264 where this machine has an encoder for it), or .webm (VP9).",
)
@click.option(
    "--column", default="score", metavar="NAME", help="Score column to show; see docs/score.md."
)
@click.option(
    "--overlay",
    type=click.Choice(["auto", "boxes", "map", "none"]),
    default="auto",
    help="Over the picture. auto: the boxes of the detector, else its first map.",
)
@click.option("--map", "map_name", metavar="NAME", help="The map, where there are several.")
@set_option
def render(
    scores: Path,
    video: str,
    out: Path,
    column: str,
    overlay: Any,
    map_name: str | None,
    settings: tuple[str, ...],
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
    done = render_video(
        scores, video, out, column=column, overlay=overlay, map_name=map_name, style=style
    )
    put("\n".join(done.lines()))
