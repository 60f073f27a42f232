"""Commands about footage: manifest, probe, extract, import, status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..registry import DATASETS
from .options import (
    ANY,
    OUT,
    cache_option,
    corrupt_option,
    echo,
    engine_options,
    finish,
    json_option,
    limit_option,
    probe_options,
    retry_option,
    set_option,
)

if TYPE_CHECKING:
    from ..engine.settings import Engine, ProbeOptions


@click.command()
@click.argument("dataset", type=click.Choice(sorted(DATASETS)))
@click.argument("root", type=ANY)
@click.option("-o", "--out", type=OUT, required=True, help=".parquet, .csv")
@click.option("--split", type=click.Choice(["train", "test", "all"]), help="Footage only.")
@click.option("--train-fraction", type=float, help="Footage only: the first part is normal.")
@set_option
def manifest(
    dataset: str,
    root: Path,
    out: Path,
    split: str | None,
    train_fraction: float | None,
    settings: tuple[str, ...],
) -> None:
    """List the videos of a data set, or of a folder of footage, with splits and labels.

    \b
    Example:
        vadpipe manifest footage /archive -o archive.parquet
        vadpipe manifest ucsd_ped2 /data/UCSDped2 -o ped2.parquet
    """
    from ...data_manifests.table import write_manifest
    from ..run.config import parse_settings
    from ..run.stages import build_manifest

    options = parse_settings(settings)
    if split is not None:
        options["split"] = split
    if train_fraction is not None:
        options["train_fraction"] = train_fraction
    made = build_manifest(dataset, root, options)
    write_manifest(made, out)
    click.echo(f"{out}: {len(made.records)} records of {dataset}")


@click.command()
@click.argument("manifest_path", metavar="MANIFEST", type=ANY)
@click.option("--decode", is_flag=True, help="Decode everything: exact counts, corrupt frames.")
@click.option("--all", "list_all", is_flag=True, help="List the videos without fault as well.")
@probe_options
@limit_option
@retry_option
@cache_option
@json_option
def probe(
    manifest_path: Path,
    list_all: bool,
    probing: ProbeOptions,
    cache: Path,
    as_json: bool,
) -> None:
    """Open every file once and say what is wrong with it, before any device time is spent.

    \b
    Example:
        vadpipe probe archive.parquet
    """
    from ...data_manifests.table import read_manifest
    from ..probe import probe_files
    from ..tables.probe import report_lines, report_values

    probed = probe_files(read_manifest(manifest_path), cache, probing)
    echo(report_lines(probed, list_all=list_all), report_values(probed), as_json)
    finish(probed.failures, cache / "failures" / f"{manifest_path.stem}-probe.parquet")


@click.command()
@click.argument("manifest_path", metavar="MANIFEST", type=ANY)
@click.option("-e", "--extractor", "names", multiple=True, required=True, help="NAME[:PRESET].")
@set_option
@click.option("--weights", help="A card's name, a file, or random:SEED.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto")
@corrupt_option
@click.option("--max-bytes", type=int, help="Refuse to write more than this.")
@click.option("--dry-run", is_flag=True, help="Print what would be done and what it costs.")
@engine_options
@probe_options
@cache_option
def extract(
    manifest_path: Path,
    names: tuple[str, ...],
    settings: tuple[str, ...],
    weights: str | None,
    precision: Any,
    on_corrupt: Any,
    max_bytes: int | None,
    dry_run: bool,
    engine: Engine,
    probing: ProbeOptions,
    cache: Path,
) -> None:
    """Turn footage into features, once; what is in the cache already is not done again.

    \b
    Example:
        vadpipe extract archive.parquet -e inception_i3d
        vadpipe extract ped2.parquet -e patch_cubes:small --set stride=8
    """
    from ...data_manifests.table import read_manifest
    from ..engine.extractor_spec import resolve_extractor, stores_of
    from ..engine.planning import estimate
    from ..engine.progress import console
    from ..extract import barred_by_quarantine, engine_for, extract_features, plans_of
    from ..probe import probe_files
    from ..run.config import parse_settings

    listed = read_manifest(manifest_path)
    config = parse_settings(settings)
    specs = [
        resolve_extractor(
            name,
            config,
            weights=weights,
            precision=precision,
            engine=engine,
            on_corrupt=on_corrupt,
        )
        for name in names
    ]
    probed = probe_files(listed, cache, probing)
    stores = stores_of(specs, cache)
    for spec, store in zip(specs, stores, strict=True):
        identity = "none" if spec.weights is None else spec.weights.identity[:19]
        console.print(f"{store.name}: precision {spec.precision}, weights {identity}")
    if dry_run:
        barred = barred_by_quarantine(probed, cache, engine)
        cost = estimate(plans_of(probed, barred, stores, engine_for(specs, engine)), specs)
        click.echo(
            f"{cost.videos} videos, {cost.hours:,.2f} hours, {cost.spans} shards, "
            f"{cost.frames:,} frames, {cost.rows:,} clips, {cost.bytes:,} bytes, "
            f"{cost.flops / 1e12:,.1f} TFLOP"
        )
        return
    done = extract_features(listed, probed, specs, cache, engine=engine, max_bytes=max_bytes)
    for store in done.stores:
        click.echo(str(store.root))
    what = f"{done.written} shards written" if done.written else "nothing to do"
    click.echo(f"{what}: {len(done.rows)} videos are complete")
    if done.damaged:
        worst = sorted(done.damaged.items(), key=lambda item: -item[1])
        named = ", ".join(f"{video_id} {n}" for video_id, n in worst[:10])
        click.echo(f"damaged frames: {sum(done.damaged.values())} in {len(worst)} videos ({named})")
    if done.waited is not None:
        console.print(f"{done.seconds:.1f} s; devices waited {100 * done.waited:.1f} % of it")
    failures = [*probed.failures, *done.failures]
    finish(failures, cache / "failures" / f"{manifest_path.stem}-extract.parquet")


@click.command("import")
@click.argument("manifest_path", metavar="MANIFEST", type=ANY)
@click.argument(
    "sources",
    metavar="FILES...",
    nargs=-1,
    required=True,
    type=ANY,
)
@click.option("--name", required=True, help="Of this import; part of its key.")
@click.option("--origin", help="Where the features are from, in words; part of the key.")
@click.option(
    "--layout", type=click.Choice(["snippets", "segments"]), help="What exactly 32 rows are."
)
@click.option("--grid", metavar="RxC", help="Files without a _patchRC tag are of this grid.")
@click.option("--snippet-frames", type=click.IntRange(1), default=16, help="Frames a snippet.")
@click.option("--fps", type=float, help="Frames per second of videos without footage.")
@click.option("--dry-run", is_flag=True, help="Look at names and headers, write nothing.")
@probe_options
@cache_option
def import_command(
    manifest_path: Path,
    sources: tuple[Path, ...],
    name: str,
    origin: str | None,
    layout: Any,
    grid: str | None,
    snippet_frames: int,
    fps: float | None,
    dry_run: bool,
    probing: ProbeOptions,
    cache: Path,
) -> None:
    """Take over features that others have extracted: npy, npz and text files, or folders of them.

    \b
    Example:
        vadpipe import ucf.parquet UCF_Train_ten_crop_i3d UCF_Test_ten_crop_i3d --name rtfm_i3d
    """
    from ...data_manifests.table import read_manifest
    from ..engine.progress import console
    from ..import_features import import_features
    from ..importing.layouts import parse_grid
    from ..probe import probe_files

    listed = read_manifest(manifest_path)
    probed = probe_files(listed, cache, probing)
    done = import_features(
        listed,
        probed,
        sources,
        cache,
        name=name,
        origin=origin,
        layout=layout,
        grid=None if grid is None else parse_grid(grid),
        snippet_frames=snippet_frames,
        fps=fps,
        dry_run=dry_run,
    )
    for line, videos in done.layouts.items():
        console.print(f"{line}: {videos} videos", markup=False, highlight=False)
    if done.missing:
        console.print(f"no file for {len(done.missing)} videos of the manifest")
    for store in done.stores:
        click.echo(str(store.root))
    if dry_run:
        click.echo(f"{len(done.videos)} videos, {done.bytes:,} bytes; nothing is written")
    else:
        what = f"{done.written} shards written" if done.written else "nothing to do"
        click.echo(f"{what}: {len(done.videos)} videos are complete")
    finish(done.failures, cache / "failures" / f"{manifest_path.stem}-import.parquet")


@click.command()
@click.option("--watch", is_flag=True, help="Print anew every two seconds until no run is left.")
@click.option("--last", type=click.IntRange(1), default=5, help="Runs to show.")
@json_option
@cache_option
def status(watch: bool, last: int, as_json: bool, cache: Path) -> None:
    """Show what extraction is doing: done, running, failed, time left; also after it has ended.

    \b
    Example:
        vadpipe status --watch
    """
    import time
    from dataclasses import asdict

    from ..engine.journal import read_runs

    while True:
        runs = read_runs(cache, last)
        lines = [line for run in runs for line in run.lines()] or [f"no runs in {cache}"]
        values = [
            asdict(run) | {"seconds_left": run.seconds_left, "lost": run.lost()} for run in runs
        ]
        echo(lines, {"runs": values}, as_json)
        if not watch or not any(run.state == "running" and not run.lost() for run in runs):
            return
        time.sleep(2)
