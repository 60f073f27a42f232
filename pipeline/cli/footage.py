"""Commands about footage: probe, extract, import, status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .names import extractor_names, feature_set_names, split_names
from .options import (
    ANY,
    cache_option,
    corrupt_option,
    echo,
    engine_options,
    finish,
    json_option,
    limit_option,
    of_split,
    probe_options,
    retry_option,
    set_option,
    weights_option,
)
from .outcome import outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..engine.extractor_spec import ExtractorSpec
    from ..engine.settings import Engine, ProbeOptions
    from ..extract import Extracted
    from ..import_features import Imported
    from ..store.failures import Failure
    from ..store.probe_table import Probed


@click.command()
@click.argument("manifest_path", metavar="MANIFEST", type=ANY)
@click.option(
    "--decode", is_flag=True, help="Decode every frame: exact frame counts, damaged frames."
)
@click.option("--all", "list_all", is_flag=True, help="Also list the videos without fault.")
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

    MANIFEST is a file that `vadpipe manifest` wrote, or a table made by hand.

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
@click.option(
    "-e",
    "--extractor",
    "names",
    multiple=True,
    required=True,
    metavar="NAME[:PRESET]",
    shell_complete=extractor_names,
    help="Extractor, with a preset if wanted; may be repeated: all share one decoding.",
)
@set_option
@weights_option
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    help="Precision of networks, part of the key. auto takes what the device does best.",
)
@click.option(
    "--from",
    "source",
    shell_complete=feature_set_names,
    metavar="NAME",
    help="Read pixels from this feature set of the cache instead of footage: its name or first "
    "letters. It must keep every frame (extractor frames).",
)
@click.option(
    "--split",
    shell_complete=split_names,
    metavar="NAME",
    help="Videos of this split of the manifest only.",
)
@corrupt_option
@click.option(
    "--max-bytes",
    type=int,
    metavar="N",
    help="Refuse to run if the features would take more than N bytes.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print what would be done and what it costs; write nothing."
)
@engine_options
@probe_options
@json_option
@cache_option
def extract(
    manifest_path: Path,
    names: tuple[str, ...],
    settings: tuple[str, ...],
    weights: tuple[str, ...],
    precision: Any,
    source: str | None,
    split: str | None,
    on_corrupt: Any,
    max_bytes: int | None,
    dry_run: bool,
    engine: Engine,
    probing: ProbeOptions,
    as_json: bool,
    cache: Path,
) -> None:
    """Turn footage into features, once; what is in the cache already is not done again.

    MANIFEST names the videos. Prints the folder of each feature set. With several -e, --set goes to
    all of them, --weights SPEC to all that have a network, and --weights SLOT=SPEC to all that have
    a network of that name.

    \b
    Example:
        vadpipe extract archive.parquet -e inception_i3d
        vadpipe extract ped2.parquet -e patch_cubes:small --set stride=8
        vadpipe extract ped2.parquet -e inception_i3d --weights rgb_charades.pt
        vadpipe extract ped2.parquet -e frames --max-bytes 2000000000
        vadpipe extract ped2.parquet -e vifi_clip --from frames
        vadpipe extract ped2.parquet -e flow --split train --max-bytes 2000000000
    """
    from ...data_manifests.table import read_manifest
    from ...extractors.weights.slots import parse_choice, shortened
    from ..engine.extractor_spec import resolve_extractors, stores_of
    from ..engine.progress import tell
    from ..extract import extract_features
    from ..run.key_value import parse_settings
    from ..store.feature_sets import store_like
    from ..tables.features import extracted_lines
    from ..tables.objects import object_lines
    from ..tables.probe import probe_to_use
    from ..tables.shapes import shape_lines

    listed = of_split(read_manifest(manifest_path), split, manifest_path)
    config = parse_settings(settings)
    specs = resolve_extractors(
        names,
        config,
        weights=parse_choice(weights),
        precision=precision,
        engine=engine,
        on_corrupt=on_corrupt,
        cache=cache,
        source=None if source is None else store_like(cache, source),
    )
    probed = probe_to_use(listed, cache, probing)
    stores = stores_of(specs, cache)
    for spec, store in zip(specs, stores, strict=True):
        used = shortened(spec.weights)
        tell(f"{store.name}: precision {spec.precision}, weights {used}")
    if dry_run:
        echo(*_dry_run(probed, specs, cache, engine), as_json)
        finish(probed.failures, None)  # a dry run writes no list of them
        return
    done = extract_features(listed, probed, specs, cache, engine=engine, max_bytes=max_bytes)
    found = [*object_lines(done.stores, done.rows, listed), *shape_lines(done.stores, done.rows)]
    failures = [*probed.failures, *done.failures]
    values = _extracted_values(done, failures, found)
    echo([*extracted_lines(done), *found], values, as_json)
    if done.waited is not None:
        tell(f"{done.seconds:.1f} s; devices waited {100 * done.waited:.1f} % of it")
    finish(failures, cache / "failures" / f"{manifest_path.stem}-extract.parquet")


def _extracted_values(
    done: Extracted, failures: Sequence[Failure], notes: Sequence[str]
) -> dict[str, Any]:
    """What was extracted, as JSON values."""
    counts = {"videos": len(done.rows), "shards": done.written}
    return outcome(
        [store.root for store in done.stores],
        counts,
        failures=failures,
        notes=list(notes),
        damaged=done.damaged,
        seconds=done.seconds,
        waited=done.waited,
        dry_run=False,
    )


def _dry_run(
    probed: Probed, specs: Sequence[ExtractorSpec], cache: Path, engine: Engine
) -> tuple[list[str], dict[str, Any]]:
    """What an extraction would do, in lines and as JSON values; nothing is written."""
    from dataclasses import asdict

    from ...data_manifests.plain_text import counted
    from ..engine.extractor_spec import stores_of
    from ..engine.planning import estimate
    from ..extract import barred_by_quarantine, engine_for, plans_of, upstream_of
    from ..tables.features import estimate_line

    barred = barred_by_quarantine(probed, cache, engine)
    upstream = upstream_of(specs, probed, [cache])
    engine = engine_for(specs, engine)
    plans = plans_of(probed, barred, stores_of(specs, cache), engine, upstream)
    cost = estimate([plan for plan in plans if any(plan.missing)], specs)
    lines = [estimate_line(cost)]
    lacking = [plan.error for plan in plans if plan.error is not None]
    if lacking:
        videos = counted(len(lacking), "video")
        lines.append(f"the source of {videos} lacks frames: {lacking[0]}")
    counts = {"videos": cost.videos, "lacking": len(lacking)}
    facts = {"cost": asdict(cost), "dry_run": True}
    return lines, outcome((), counts, failures=probed.failures, warnings=lines[1:], **facts)


@click.command("import")
@click.argument("manifest_path", metavar="MANIFEST", type=ANY)
@click.argument(
    "sources",
    metavar="FILES...",
    nargs=-1,
    required=True,
    type=ANY,
)
@click.option("--name", required=True, metavar="NAME", help="Name of this import; part of its key.")
@click.option(
    "--origin",
    metavar="TEXT",
    help="Where the features come from, in words; part of the key.",
)
@click.option(
    "--layout",
    type=click.Choice(["snippets", "segments"]),
    help="What the rows of a file with exactly 32 rows are. Without it the other files decide.",
)
@click.option(
    "--grid",
    metavar="RxC",
    help="Grid of files without a _patchRC tag in their name: rows x columns.",
)
@click.option(
    "--row-axis",
    type=click.Choice(["0", "1", "2"]),
    help="Axis that counts rows: 0 of (n, D) and (n, crops, D), 1 of (D, n), (crops, n, D) and "
    "(1, n, D), 2 of (crops, D, n). Without it all files decide together.",
)
@click.option(
    "--snippet-frames",
    type=click.IntRange(1),
    default=16,
    metavar="N",
    help="Frames in a snippet.",
)
@click.option("--fps", type=float, help="Frames per second of videos without footage.")
@click.option(
    "--mot",
    is_flag=True,
    help="FILES are boxes with track ids in MOT text: frame, id, left, top, width, height, conf.",
)
@click.option(
    "--frame-size",
    metavar="HxW",
    help="Height and width of the frames of videos without footage; with --mot.",
)
@click.option("--dry-run", is_flag=True, help="Read names and headers only; write nothing.")
@probe_options
@json_option
@cache_option
def import_command(
    manifest_path: Path,
    sources: tuple[Path, ...],
    name: str,
    origin: str | None,
    layout: Any,
    grid: str | None,
    row_axis: str | None,
    snippet_frames: int,
    fps: float | None,
    mot: bool,
    frame_size: str | None,
    dry_run: bool,
    probing: ProbeOptions,
    as_json: bool,
    cache: Path,
) -> None:
    """Import features that others have extracted: npy, npz and text files, or folders of them.

    MANIFEST names the videos; each of FILES... is matched with one of them by its name. With --mot,
    FILES... are tracks of objects instead.

    \b
    Example:
        vadpipe import ucf.parquet UCF_Train_ten_crop_i3d UCF_Test_ten_crop_i3d --name rtfm_i3d
        vadpipe import yard.parquet tracks/ --mot --name bytetrack --frame-size 480x856
    """
    from ...data_manifests.table import read_manifest
    from ..engine.progress import tell
    from ..import_features import import_features
    from ..import_tracks import import_tracks, parse_size
    from ..importing.layouts import parse_grid
    from ..tables.features import found_lines, imported_lines
    from ..tables.probe import probe_to_use

    if mot and (layout or grid or row_axis or snippet_frames != 16):
        raise click.UsageError(
            "--layout, --grid, --row-axis and --snippet-frames mean nothing with --mot"
        )
    if frame_size and not mot:
        raise click.UsageError("--frame-size means nothing without --mot")
    listed = read_manifest(manifest_path)
    given = (listed, probe_to_use(listed, cache, probing), sources, cache)
    facts: dict[str, Any] = {"name": name, "origin": origin, "fps": fps, "dry_run": dry_run}
    if mot:
        size = None if frame_size is None else parse_size(frame_size)
        done = import_tracks(*given, frame_size=size, **facts)
    else:
        cells = None if grid is None else parse_grid(grid)
        axis = None if row_axis is None else int(row_axis)
        facts |= {"layout": layout, "snippet_frames": snippet_frames}
        done = import_features(*given, grid=cells, row_axis=axis, **facts)
    for line in found_lines(done):
        tell(line)
    echo(imported_lines(done, dry_run=dry_run), _imported_values(done, dry_run=dry_run), as_json)
    finish(done.failures, cache / "failures" / f"{manifest_path.stem}-import.parquet")


def _imported_values(done: Imported, *, dry_run: bool) -> dict[str, Any]:
    """What was imported, as JSON values."""
    return outcome(
        [] if dry_run else [store.root for store in done.stores],
        {"videos": len(done.videos), "shards": done.written, "bytes": done.bytes},
        failures=done.failures,
        layouts=done.layouts,
        missing=done.missing,
        unmatched=done.unmatched,
        dry_run=dry_run,
    )


@click.command()
@click.option("--watch", is_flag=True, help="Print every two seconds until no run is left.")
@click.option(
    "--last", type=click.IntRange(1), default=5, metavar="N", help="Show the last N runs."
)
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
