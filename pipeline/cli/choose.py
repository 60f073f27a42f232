"""The commands that choose settings by training footage alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .names import detector_names, feature_set_names
from .options import (
    ANY,
    OUT,
    cache_option,
    echo,
    json_option,
    probe_options,
    seed_option,
    set_option,
)
from .outcome import outcome

if TYPE_CHECKING:
    from ..engine.settings import ProbeOptions


@click.group()
def choose() -> None:
    """Choose settings by training footage alone: first copies that play faster, then a ranking."""


@choose.command()
@click.argument("manifest_path", metavar="MANIFEST", type=ANY)
@click.argument("folder", type=OUT)
@click.option(
    "--speed",
    "speeds",
    type=click.IntRange(2),
    multiple=True,
    default=(2, 3),
    metavar="N",
    help="Take every Nth frame; may be repeated.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(0),
    metavar="N",
    help="Refuse to run if the copies may take more than N bytes; must be given.",
)
@click.option("--dry-run", is_flag=True, help="Print what the copies cost; write nothing.")
@probe_options
@json_option
@cache_option
def copies(
    manifest_path: Path,
    folder: Path,
    speeds: tuple[int, ...],
    max_bytes: int | None,
    dry_run: bool,
    probing: ProbeOptions,
    as_json: bool,
    cache: Path,
) -> None:
    """Write copies of the training clips that play faster; prints their manifest.

    MANIFEST names the videos; only the split train is used. FOLDER is new or empty. Copies are
    folders of PNG files without a frame rate: wherever they are read, give the rate of the clips
    with --image-fps.

    \b
    Example:
        vadpipe choose copies ped2.parquet fast --image-fps 10 --max-bytes 1000000000
    """
    from ...data_manifests.plain_text import counted
    from ...data_manifests.table import read_manifest
    from ..choosing.fast_copies import FILE, bytes_of_copies, training_clips, write_fast_copies
    from ..tables.probe import probe_to_use

    listed = read_manifest(manifest_path)
    clips = training_clips(listed)
    probed = probe_to_use(listed.select(split="train"), cache, probing)
    counts = {"copies": len(clips) * len(set(speeds))}
    if dry_run:
        most = bytes_of_copies(listed, probed, speeds)
        line = f"{counted(counts['copies'], 'copy', 'copies')}, at most about {most:,} bytes"
        echo([line], outcome((), counts, most_bytes=most, dry_run=True), as_json)
        return
    write_fast_copies(listed, probed, folder, speeds, max_bytes=max_bytes)
    made = folder / FILE
    echo([str(made)], outcome([made], counts, dry_run=False), as_json)


@choose.command()
@click.argument("detector", shell_complete=detector_names)
@click.argument("manifest_path", metavar="MANIFEST", type=ANY)
@click.argument("copies_path", metavar="COPIES", type=ANY)
@click.option(
    "--features",
    shell_complete=feature_set_names,
    metavar="STORE",
    help="Feature set of objects, by name or first letters; needed if several would fit.",
)
@click.option(
    "--copy-features",
    shell_complete=feature_set_names,
    metavar="STORE",
    help="That of the copies, if it was made with other settings, as from a boxes file.",
)
@click.option(
    "--grid",
    "pairs",
    multiple=True,
    metavar="KEY=VALUES",
    help="Values of a setting of the detector, as smooth=[2, 4, 8]; may be repeated: every "
    "combination is ranked.",
)
@click.option(
    "--threshold",
    "thresholds",
    type=click.FloatRange(0, 1),
    multiple=True,
    default=(0.0,),
    metavar="SCORE",
    help="Smallest score of a box; may be repeated. 0 takes all boxes of the feature set.",
)
@click.option(
    "--stride",
    "strides",
    type=click.IntRange(1),
    multiple=True,
    default=(1,),
    metavar="N",
    help="Look at every Nth frame; may be repeated.",
)
@set_option
@seed_option
@probe_options
@cache_option
@json_option
def rank(
    detector: str,
    manifest_path: Path,
    copies_path: Path,
    features: str | None,
    copy_features: str | None,
    pairs: tuple[str, ...],
    thresholds: tuple[float, ...],
    strides: tuple[int, ...],
    settings: tuple[str, ...],
    seed: int,
    probing: ProbeOptions,
    cache: Path,
    as_json: bool,
) -> None:
    """Rank settings of a detector of objects; the best come first.

    DETECTOR is a name (docs/detectors), MANIFEST names the videos, of which only the split train is
    used, and COPIES is the manifest that choose copies has written. Objects of both are in the
    cache, of every frame and with the lowest threshold. Each training clip is left out of a fit in
    turn, and scored with one window of the picture that plays fast.

    \b
    Example:
        vadpipe choose rank attribute_density ped2.csv fast/manifest.parquet --grid smooth=[2,4,8]
        vadpipe choose rank attribute_density a.csv b/manifest.parquet --stride 1 --stride 3
    """
    from ...data_manifests.table import read_manifest
    from ..choose import rank_settings
    from ..choosing.fast_copies import training_clips
    from ..engine.progress import tell
    from ..run.key_value import parse_settings
    from ..tables.probe import probe_to_use

    grid = parse_settings(pairs, option="--grid")
    keys = [pair.partition("=")[0].strip() for pair in pairs]
    if twice := [key for key in grid if keys.count(key) > 1]:
        raise click.UsageError(f"--grid {twice[0]} is there twice: write all values in one list")
    if wrong := [key for key, values in grid.items() if not isinstance(values, list)]:
        raise click.UsageError(f"--grid {wrong[0]}: write a list, as {wrong[0]}=[1, 2]")
    listed, faster = read_manifest(manifest_path), read_manifest(copies_path)
    training_clips(listed)  # before anything is probed
    found = rank_settings(
        detector,
        listed,
        probe_to_use(listed.select(split="train"), cache, probing),
        faster,
        probe_to_use(faster, cache, probing),
        cache,
        features=features,
        copy_features=copy_features,
        settings=parse_settings(settings),
        grid=grid,
        thresholds=thresholds,
        strides=strides,
        seed=seed,
        on_cell=lambda done, total: tell(f"ranked {done} of {total}"),
    )
    lines = [each.line() for each in found]
    echo(lines, {"detector": detector, "ranked": [each.to_json() for each in found]}, as_json)
