"""The command that draws what a feature set holds of a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .names import drawn_arrays, feature_set_names, listed_videos
from .options import ANY, OUT_FILE, cache_option, echo, json_option, probe_options
from .outcome import outcome

if TYPE_CHECKING:
    from ..engine.settings import ProbeOptions


@click.command()
@click.argument("features", shell_complete=feature_set_names)
@click.argument("video", shell_complete=listed_videos)
@click.option(
    "--manifest",
    "manifest_path",
    type=ANY,
    help="Manifest that has VIDEO as an id; without it VIDEO is a video file or a folder of "
    "pictures.",
)
@click.option(
    "-o",
    "--out",
    type=OUT_FILE,
    metavar="FILE",
    help="The sheet, .png or .jpg. Default: FEATURES-VIDEO.png here.",
)
@click.option(
    "--array",
    shell_complete=drawn_arrays,
    help="What to draw, if the set has several arrays that can be drawn.",
)
@click.option(
    "--frame",
    "frames",
    type=click.IntRange(0),
    multiple=True,
    metavar="NUMBER",
    help="Draw this frame; may be repeated. Default: evenly spaced ones.",
)
@click.option("--tiles", type=click.IntRange(1, 400), default=24, help="Rows that are drawn.")
@click.option("--width", type=click.IntRange(16, 2048), default=160, help="Of a tile, in pixels.")
@click.option("--columns", type=click.IntRange(1, 50), default=6, help="Tiles side by side.")
@probe_options
@json_option
@cache_option
def show(
    features: str,
    video: str,
    manifest_path: Path | None,
    out: Path | None,
    array: str | None,
    frames: tuple[int, ...],
    tiles: int,
    width: int,
    columns: int,
    probing: ProbeOptions,
    as_json: bool,
    cache: Path,
) -> None:
    """Draw a contact sheet of a feature set: frames, flow, masks, crops, boxes.

    FEATURES is the name of the set, or its first letters. Rows are evenly spaced over VIDEO; the
    number below each is that of its frame. Flow is drawn on the colour wheel of Middlebury, boxes
    on the frames of the footage.

    \b
    Example:
        vadpipe show perturb /data/ped2/Train/Train001
        vadpipe show flow Train001 --manifest ped2.parquet -o flow.png --tiles 12 --width 320
        vadpipe show perturb Train001 --manifest ped2.parquet --array mask
        vadpipe show objects gate.mp4 --frame 750 --width 640 -o gate.jpg
    """
    from ...data_manifests.record import ManifestError
    from ...data_manifests.table import read_manifest
    from ..registry import DATASETS
    from ..show import show_features

    if manifest_path is not None:
        listed, video_id = read_manifest(manifest_path), video
    elif not Path(video).exists():
        raise ManifestError(f"there is no file {video}; an id of a video needs --manifest FILE")
    else:
        listed = DATASETS["footage"](Path(video))
        if len(listed.records) != 1:
            raise ManifestError(f"{video} holds {len(listed.records)} videos: name one of them")
        video_id = listed.records[0].video_id
    layout = {"array": array, "frames": frames, "tiles": tiles, "width": width, "columns": columns}
    sheet, path = show_features(cache, features, listed, video_id, out, probing, **layout)
    counts = {"drawn": len(sheet.frames), "rows": sheet.rows}
    facts: dict[str, Any] = {
        "array": sheet.array,
        "frames": list(map(int, sheet.frames)),
        "strongest": sheet.full,
    }
    echo(sheet.lines(path), outcome([path], counts, **facts), as_json)
