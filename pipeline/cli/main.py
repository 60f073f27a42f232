"""The command line: parse, call one stage, print. No logic."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from pydantic import ValidationError

from ...data_manifests import DATASETS, Manifest, ManifestError, read_manifest, write_manifest
from ...data_manifests import footage as footage_dataset
from ...extractors import EXTRACTORS
from ...extractors.base import ExtractorError
from ...extractors.footage.limits import DecodeLimits
from ...extractors.footage.video import DecodeError
from ...extractors.weights.kept import Weights, WeightsError
from ..engine.progress import console
from ..engine.settings import SPAN_FRAMES, Engine
from ..run.config import ConfigError, default_cache, load_run, parse_settings
from ..store.failures import Failure, write_failures
from ..store.feature_store import FeatureStore, StoreError, list_stores

if TYPE_CHECKING:
    from ..probe import Probed

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}
PARTLY = 3  # exit code: done, but some videos failed
Command = TypeVar("Command", bound=Callable[..., Any])


def _known_errors() -> tuple[type[BaseException], ...]:
    errors: list[type[BaseException]] = [ManifestError, ExtractorError, DecodeError, WeightsError]
    errors += [StoreError, ConfigError, ValidationError, OSError]
    for module, name in (
        ("detectors.base", "DetectorError"),
        ("pipeline.cluster", "ClusterError"),
        ("pipeline.metrics", "MetricsError"),
        ("pipeline.feature_files", "FeatureFileError"),
        ("pipeline.compare", "CompareError"),
        ("pipeline.events", "EventError"),
        ("pipeline.report", "ReportError"),
        ("pipeline.score", "ScoreError"),
    ):
        loaded = sys.modules.get(f"vadpipe.{module}")  # an error of what was never imported
        if loaded is not None:
            errors.append(getattr(loaded, name))
    return tuple(errors)


def main() -> None:
    """Entry point: known errors become one message and exit code 1."""
    signal.signal(signal.SIGTERM, _interrupt)  # batch systems end a job so
    try:
        sys.exit(cli(standalone_mode=False) or 0)  # an Exit comes back as its code
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        console.print("stopped; run the same command again to go on")
        sys.exit(130)
    except Exception as error:
        if not isinstance(error, _known_errors()):
            raise
        console.print(f"Error: {error}", style="bold red", markup=False, highlight=False)
        sys.exit(1)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def cache_option(command: Command) -> Command:
    """`--cache DIR`."""
    return click.option(
        "--cache",
        type=click.Path(path_type=Path),
        default=default_cache,
        show_default="$VADPIPE_CACHE or the user's cache folder",
        help="Root of the cache.",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)


def probe_options(command: Command) -> Command:
    """How files are opened."""
    command = click.option("--image-fps", default=25.0, help="Frames per second of image folders.")(
        command
    )
    return click.option(
        "--hash",
        "hash_mode",
        type=click.Choice(["sampled", "full"]),
        default="sampled",
        help="Tell files apart by samples of their content or by all of it.",
    )(command)


limit_option = click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="KEY=VALUE",
    help="What a file may cost: pixels, hours, bytes, seconds (without progress), memory.",
)
retry_option = click.option(
    "--retry-quarantined", is_flag=True, help="Open files again that took a process down."
)
corrupt_option = click.option(
    "--on-corrupt",
    type=click.Choice(["keep", "skip", "fail"]),
    default="keep",
    help="Clips with damaged frames: use them, leave them out, or refuse the video.",
)


def engine_options(command: Command) -> Command:
    """Where and how fast; none of them changes a key. The command gets them as one `engine`."""
    options = (
        click.option("--device", default="cpu", help="cpu, cuda (all GPUs), cuda:0, cuda:0,cuda:1"),
        click.option("--workers", type=click.IntRange(0), default=0, help="Local processes (CPU)."),
        click.option("--scheduler", metavar="ADDR", help="An existing Dask cluster; tls://..."),
        click.option("--tls-ca", type=_FILE, help="Certificate authority of the cluster."),
        click.option("--tls-cert", type=_FILE, help="This side's certificate."),
        click.option("--tls-key", type=_FILE, help="Its key."),
        click.option("--threads", type=click.IntRange(1), help="CPU threads of a network."),
        click.option("--streams", type=click.IntRange(1), help="Videos at once in each process."),
        click.option("--batch-size", type=click.IntRange(1), help="Clips a batch; else tuned."),
        click.option("--compile", is_flag=True, help="Let torch.compile rewrite networks."),
        click.option(
            "--span-frames", type=click.IntRange(1), default=SPAN_FRAMES, help="Frames a span."
        ),
        limit_option,
        retry_option,
    )

    @wraps(command)
    def with_engine(**values: Any) -> Any:
        limits = _limits(values.pop("limits"))
        settings = {name: values.pop(name) for name in Engine.model_fields if name in values}
        return command(engine=Engine(**settings, limits=limits), **values)

    for option in reversed(options):
        option(with_engine)
    return cast(Command, with_engine)


def _limits(pairs: tuple[str, ...]) -> DecodeLimits:
    return DecodeLimits.model_validate(parse_settings(pairs))


set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting; may be repeated."
)


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="vadpipe")
def cli() -> None:
    """Video anomaly detection: features once, then small detectors from the cache."""


def _echo(lines: list[str], values: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps(values, indent=1) if as_json else "\n".join(lines))


def _finish(failures: list[Failure], path: Path) -> None:
    """List failures on stderr, write them, and end with code 3 if there are any."""
    if failures or path.is_file():  # an earlier run may have left some
        write_failures(path, failures)
    if not failures:
        return
    console.print(f"[yellow]{len(failures)} failed; all are in {path}[/]")
    for failure in failures[:20]:
        line = f"  {failure.video_id}: {failure.stage}: {failure.error}: {failure.message}"
        console.print(line, markup=False, highlight=False)
    raise click.exceptions.Exit(PARTLY)


def _open_target(target: Path, split: str | None) -> Manifest:
    """A manifest file, or one's own footage: a file or a folder."""
    if target.suffix.lower() not in (".parquet", ".csv"):
        return footage_dataset.build(target)
    manifest = read_manifest(target)
    if split is None:
        split = "test" if any(r.split == "test" for r in manifest.records) else None
    chosen = manifest.select(split=split)
    if not chosen.records:
        raise ManifestError(f"{target} has no videos of split {split!r}")
    return chosen


@cli.command()
@click.argument("dataset", type=click.Choice(sorted(DATASETS)))
@click.argument("root", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help=".parquet, .csv")
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
    from ..run.stages import build_manifest

    options = parse_settings(settings)
    if split is not None:
        options["split"] = split
    if train_fraction is not None:
        options["train_fraction"] = train_fraction
    made = build_manifest(dataset, root, options)
    write_manifest(made, out)
    click.echo(f"{out}: {len(made.records)} records of {dataset}")


@cli.command()
@click.argument("manifest_path", metavar="MANIFEST", type=click.Path(exists=True, path_type=Path))
@click.option("--decode", is_flag=True, help="Decode everything: exact counts, corrupt frames.")
@click.option("--all", "list_all", is_flag=True, help="List the videos without fault as well.")
@limit_option
@retry_option
@probe_options
@cache_option
@json_option
def probe(
    manifest_path: Path,
    decode: bool,
    list_all: bool,
    limits: tuple[str, ...],
    retry_quarantined: bool,
    hash_mode: Any,
    image_fps: float,
    cache: Path,
    as_json: bool,
) -> None:
    """Open every file once and say what is wrong with it, before any device time is spent.

    \b
    Example:
        vadpipe probe archive.parquet
    """
    from ..probe import probe as run_probe
    from ..tables.probe import report_lines, report_values

    probed = run_probe(
        read_manifest(manifest_path),
        cache,
        hash_mode=hash_mode,
        decode=decode,
        image_fps=image_fps,
        limits=_limits(limits),
        retry_quarantined=retry_quarantined,
    )
    _echo(report_lines(probed, list_all=list_all), report_values(probed), as_json)
    _finish(probed.failures, cache / "failures" / f"{manifest_path.stem}-probe.parquet")


@cli.command()
@click.argument("manifest_path", metavar="MANIFEST", type=click.Path(exists=True, path_type=Path))
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
    hash_mode: Any,
    image_fps: float,
    cache: Path,
) -> None:
    """Turn footage into features, once; what is in the cache already is not done again.

    \b
    Example:
        vadpipe extract archive.parquet -e inception_i3d
        vadpipe extract ped2.parquet -e patch_cubes:small --set stride=8
    """
    from ..engine.extractor_spec import resolve_extractor, stores_of
    from ..engine.planning import estimate
    from ..extract import barred_by_quarantine, engine_for, plans_of
    from ..extract import extract as run_extract

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
    probed = _probe(listed, cache, hash_mode, image_fps, engine)
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
    done = run_extract(listed, probed, specs, cache, engine=engine, max_bytes=max_bytes)
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
    _finish(failures, cache / "failures" / f"{manifest_path.stem}-extract.parquet")


def _probe(
    listed: Manifest, cache: Path, hash_mode: Any, image_fps: float, engine: Engine
) -> Probed:
    from ..probe import probe as run_probe

    return run_probe(
        listed,
        cache,
        hash_mode=hash_mode,
        image_fps=image_fps,
        limits=engine.limits,
        retry_quarantined=engine.retry_quarantined,
    )


@cli.command("import")
@click.argument("manifest_path", metavar="MANIFEST", type=click.Path(exists=True, path_type=Path))
@click.argument(
    "sources",
    metavar="FILES...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
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
    hash_mode: Any,
    image_fps: float,
    cache: Path,
) -> None:
    """Take over features that others have extracted: npy, npz and text files, or folders of them.

    \b
    Example:
        vadpipe import ucf.parquet UCF_Train_ten_crop_i3d UCF_Test_ten_crop_i3d --name rtfm_i3d
    """
    from ..import_features import import_features, parse_grid
    from ..probe import probe as run_probe

    listed = read_manifest(manifest_path)
    probed = run_probe(listed, cache, hash_mode=hash_mode, image_fps=image_fps)
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
    _finish(done.failures, cache / "failures" / f"{manifest_path.stem}-import.parquet")


@cli.command()
@click.argument("detector")
@click.argument("manifest_path", metavar="MANIFEST", type=click.Path(exists=True, path_type=Path))
@click.option("--features", multiple=True, metavar="ROLE=STORE", help="Where several would do.")
@click.option("--config", type=click.Path(exists=True, path_type=Path), help="TOML file.")
@set_option
@click.option("--seed", type=int, default=0)
@click.option(
    "--seeds", type=click.IntRange(1), default=1, help="Models: seed, seed + 1, ... one each."
)
@click.option("--device", default="cpu")
@click.option(
    "--holdout",
    type=click.FloatRange(0, 0.9),
    default=0.2,
    help="Share of the normal videos that give the threshold instead of being trained on.",
)
@click.option("--memory", type=click.IntRange(1), help="Bytes of training data on the device.")
@click.option("--tensorboard", type=click.Path(file_okay=False, path_type=Path), help="Folder.")
@click.option("--force", is_flag=True, help="Train again even if the model is there.")
@probe_options
@cache_option
def train(
    detector: str,
    manifest_path: Path,
    features: tuple[str, ...],
    config: Path | None,
    settings: tuple[str, ...],
    seed: int,
    seeds: int,
    device: str,
    holdout: float,
    memory: int | None,
    tensorboard: Path | None,
    force: bool,
    hash_mode: Any,
    image_fps: float,
    cache: Path,
) -> None:
    """Train a detector from the cache; prints the model folder.

    \b
    Example:
        vadpipe train knn ped2.parquet --set role=patch
        vadpipe train ssrl ucf.parquet --set steps=300 --seeds 3
    """
    import tomllib

    from ..probe import probe as run_probe
    from ..train import train as run_train

    listed = read_manifest(manifest_path)
    chosen = {} if config is None else tomllib.loads(config.read_text(encoding="utf-8"))
    probed = run_probe(
        listed.select(split="train"), cache, hash_mode=hash_mode, image_fps=image_fps
    )
    for drawn in range(seed, seed + seeds):
        done = run_train(
            detector,
            listed,
            probed,
            cache,
            features=parse_settings(features),
            settings={**chosen, **parse_settings(settings)},
            seed=drawn,
            device=device,
            holdout=holdout,
            memory=memory,
            tensorboard=None if tensorboard is None else tensorboard / f"seed-{drawn}",
            force=force,
        )
        click.echo(str(done.folder))
        facts = ", ".join(f"{k} {v}" for k, v in done.summary.items())
        console.print(f"{'trained' if done.fresh else 'this model is there already'}: {facts}")


@cli.command()
@click.argument("model")
@click.argument("target", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Score folder.")
@click.option("--split", help="Of a manifest; the test split if it has one.")
@click.option("--quantile", type=float, default=0.99, help="Of normal scores: the threshold.")
@click.option("--weights", help="One's own weights file, if the model was trained with one.")
@click.option("--no-maps", is_flag=True, help="Store no score maps, so draw no heat-maps.")
@click.option(
    "--discard-features", is_flag=True, help="Delete the features of a video once it is scored."
)
@engine_options
@probe_options
@cache_option
def score(
    model: str,
    target: Path,
    out: Path,
    split: str | None,
    quantile: float,
    weights: str | None,
    no_maps: bool,
    discard_features: bool,
    engine: Engine,
    hash_mode: Any,
    image_fps: float,
    cache: Path,
) -> None:
    """Score a video, a folder or a manifest; what is missing is extracted first.

    Writes scores.parquet, events.parquet and report.html. A second run scores what is new.

    \b
    Example:
        vadpipe score MODEL some.mp4 -o out
        vadpipe score MODEL /archive -o out --discard-features
    """
    from ..report.stage import write_report
    from ..run.stages import evaluate_if_labelled
    from ..score import score as run_score
    from ..scores.events import EventConfig
    from ..train import find_model

    listed = _open_target(target, split)
    probed = _probe(listed, cache, hash_mode, image_fps, engine)
    release = min(EventConfig().release_quantile, quantile)
    done = run_score(
        find_model(cache, model),
        listed,
        probed,
        out,
        cache,
        engine=engine,
        events=EventConfig(quantile=quantile, release_quantile=release),
        weights=weights,
        keep_maps=not no_maps,
        discard_features=discard_features,
        command=" ".join(sys.argv),
    )
    lines, failures = evaluate_if_labelled(out, listed)
    click.echo(f"{len(done.videos)} videos scored ({done.fresh} new), {done.events} events")
    for line in lines:
        click.echo(line)
    click.echo(str(write_report(out, out / "report.html", manifest=listed)))
    _finish([*done.failures, *failures], out / "failures.parquet")


@cli.command()
@click.argument(
    "scores",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.argument("manifest_path", metavar="MANIFEST", type=click.Path(exists=True, path_type=Path))
@click.option("--split", default="test")
@click.option(
    "--align",
    type=click.Choice(["auto", "exact", "pad16"]),
    default="auto",
    help="Measure the frames of a video, or 16 for every snippet.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(0, 100_000),
    default=1000,
    help="Samples of videos for the intervals; 0 gives none.",
)
@json_option
def evaluate(
    scores: tuple[Path, ...],
    manifest_path: Path,
    split: str,
    align: Any,
    bootstrap: int,
    as_json: bool,
) -> None:
    """Compare scores with frame labels: micro and macro AUC, AP, per category and video.

    Several score folders of the same videos (one a seed) give a line each, mean and spread.

    \b
    Example:
        vadpipe evaluate out ped2.parquet
        vadpipe evaluate seed0 seed1 seed2 ucf.parquet --align exact
    """
    from ..evaluate import evaluate_runs
    from ..run.stages import detail_lines, metrics_lines, runs_lines

    listed = _open_target(manifest_path, split)
    runs = evaluate_runs(scores, listed, align=align, replicates=bootstrap)
    if len(scores) > 1:
        _echo(runs_lines(runs), runs.to_json(), as_json)
    else:
        (done,) = runs.runs.values()
        _echo(metrics_lines(done) + detail_lines(done), done.to_json(), as_json)


@cli.command()
@click.argument("scores", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument(
    "manifest_path",
    metavar="[MANIFEST]",
    required=False,
    type=click.Path(exists=True, path_type=Path),
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="HTML file or a folder for it.")
@click.option("--heatmaps", is_flag=True, help="Write heat-maps as PNG files beside the page too.")
@set_option
def report(
    scores: Path,
    manifest_path: Path | None,
    out: Path | None,
    heatmaps: bool,
    settings: tuple[str, ...],
) -> None:
    """Write the page: curves, events with thumbnails and heat-maps, ROC, settings.

    \b
    Example:
        vadpipe report out ped2.parquet
        vadpipe report out --heatmaps --set upsample=bilinear --set scale=frame
    """
    from ..report.heatmaps import HeatmapStyle
    from ..report.stage import write_report

    target = scores / "report.html" if out is None else out
    if target.suffix.lower() != ".html":
        target = target / "report.html"
    listed = None if manifest_path is None else _open_target(manifest_path, None)
    style = HeatmapStyle.model_validate(parse_settings(settings))
    page = write_report(scores, target, manifest=listed, style=style, heatmap_files=heatmaps)
    click.echo(str(page))


@cli.command()
@click.argument("run_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@set_option
@click.option("--dry-run", is_flag=True, help="Print the stages and do nothing.")
def run(run_file: Path, settings: tuple[str, ...], dry_run: bool) -> None:
    """Run everything that a TOML file describes, from manifest to report.

    \b
    Example:
        vadpipe run ped2.toml --set seed=1
    """
    from ..run.stages import execute, plan

    config = load_run(run_file, settings)
    stages = plan(config)
    if dry_run:
        for stage in stages:
            needs = ", ".join(stage.needs) or "-"
            click.echo(f"{stage.name}\tneeds {needs}\t{stage.key[:12]}\t{stage.target}")
        return
    failures: list[Failure] = []
    for stage, result in execute(stages):
        for line in result.lines:
            click.echo(f"{stage.name}: {line}")
        failures += result.failures
    unique = list({(f.video_id, f.stage): f for f in failures}.values())
    _finish(unique, config.out / "failures.parquet")


@cli.group()
def cache() -> None:
    """Look after the feature sets of a cache."""


@cache.command("ls")
@cache_option
def cache_ls(cache: Path) -> None:
    """List the feature sets with their size."""
    import pyarrow.compute as pc

    for store in list_stores(cache):
        table = store.index()
        size = pc.sum(table["size"]).as_py() or 0
        videos = pc.count_distinct(table["content_id"]).as_py()
        click.echo(f"{store.name}\t{videos} videos\t{table.num_rows} shards\t{size:,} bytes")


def _chosen(cache: Path, names: tuple[str, ...]) -> list[FeatureStore]:
    """The feature sets of these full names; without any, all.

    Raises:
        StoreError: there is none of that name.
    """
    stores = {store.name: store for store in list_stores(cache)}
    for name in names:
        if name not in stores:
            raise StoreError(f"{cache} has no feature set {name!r}; see vadpipe cache ls")
    return [stores[name] for name in names or stores]


@cache.command("verify")
@click.argument("names", nargs=-1)
@cache_option
def cache_verify(names: tuple[str, ...], cache: Path) -> None:
    """Read every shard and compare it with its checksum; exit code 1 on any problem."""
    problems = [f"{s.name}: {line}" for s in _chosen(cache, names) for line in s.verify()]
    for line in problems:
        click.echo(line)
    if problems:
        raise click.exceptions.Exit(1)
    click.echo("all shards are whole")


@cache.command("rebuild")
@click.argument("names", nargs=-1)
@cache_option
def cache_rebuild(names: tuple[str, ...], cache: Path) -> None:
    """Write the index anew from the shards."""
    for store in _chosen(cache, names):
        click.echo(f"{store.name}\t{store.rebuild_index()} shards")


@cache.command("quarantine")
@click.option("--release", multiple=True, metavar="PATH", help="Let a file go (or `all`).")
@cache_option
def cache_quarantine(release: tuple[str, ...], cache: Path) -> None:
    """List the files that took a process down, or let them go."""
    from ..engine import quarantine

    for entry in quarantine.entries(cache).values():
        if "all" in release or entry.path in release:
            quarantine.release(cache, entry.key)
            click.echo(f"released {entry.path}")
        elif not release:
            click.echo(f"{entry.path}\t{entry.error}\t{entry.message}")


@cache.command("compare")
@click.argument("a")
@click.argument("b")
@click.option(
    "--manifest",
    "manifest_path",
    type=click.Path(exists=True, path_type=Path),
    help="Names the videos; needed where A or B are files.",
)
@probe_options
@json_option
@cache_option
def cache_compare(
    a: str,
    b: str,
    manifest_path: Path | None,
    hash_mode: Any,
    image_fps: float,
    as_json: bool,
    cache: Path,
) -> None:
    """Say how two feature sets differ: A and B are names in the cache, files or folders.

    \b
    Example:
        vadpipe cache compare imported-1f0c inception_i3d-77ab
        vadpipe cache compare rtfm_i3d /data/other_i3d --manifest ucf.parquet
    """
    from ..importing.compare import compare
    from ..probe import probe as run_probe

    listed = None if manifest_path is None else read_manifest(manifest_path)
    probed = None
    if listed is not None:
        probed = run_probe(listed, cache, hash_mode=hash_mode, image_fps=image_fps)
    done = compare(cache, a, b, manifest=listed, probed=probed)
    _echo(done.lines(), done.to_json(), as_json)


@cache.command("rm")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cache_option
def cache_rm(name: str, yes: bool, cache: Path) -> None:
    """Delete a feature set by its full name."""
    import shutil

    (store,) = _chosen(cache, (name,))
    if not yes:
        click.confirm(f"delete {store.root}?", abort=True)
    shutil.rmtree(store.root)
    click.echo(f"deleted {store.root}")


@cli.command()
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
        _echo(lines, {"runs": values}, as_json)
        if not watch or not any(run.state == "running" and not run.lost() for run in runs):
            return
        time.sleep(2)


@cli.group()
def labels() -> None:
    """Look after the labels of a manifest."""


@labels.command("check")
@click.argument("manifest_path", metavar="MANIFEST", type=click.Path(exists=True, path_type=Path))
@click.option("--features", metavar="STORE", help="A feature set of the cache, or its beginning.")
@click.option("--scores", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--split", help="Compare videos of this split only.")
@click.option("--subset", is_flag=True, help="Videos are missing on purpose: compare no totals.")
@probe_options
@cache_option
@json_option
def labels_check(
    manifest_path: Path,
    features: str | None,
    scores: Path | None,
    split: str | None,
    subset: bool,
    hash_mode: Any,
    image_fps: float,
    cache: Path,
    as_json: bool,
) -> None:
    """Compare labels with official totals, features and scores; exit code 1 if any differs.

    \b
    Example:
        vadpipe labels check ucf.parquet --features inception_i3d --scores out
    """
    from ..labels import check_labels
    from ..probe import probe as run_probe

    listed = read_manifest(manifest_path)
    store = rows = None
    if features is not None:
        found = [s for s in list_stores(cache) if s.name.startswith(features)]
        if len(found) != 1:
            names = ", ".join(s.name for s in found) or "none"
            raise StoreError(f"{cache} needs one feature set {features!r}, has {names}")
        store = found[0]
        probed = run_probe(
            listed.select(split=split), cache, hash_mode=hash_mode, image_fps=image_fps
        )
        rows = probed.rows
    done = check_labels(
        listed, features=store, rows=rows, scores=scores, split=split, subset=subset
    )
    _echo(done.lines(), done.to_json(), as_json)
    if not done.ok:
        raise click.exceptions.Exit(1)


@cli.group()
def weights() -> None:
    """Look after pretrained weights."""


def _cards() -> dict[str, Weights]:
    return {card.name: card for name in EXTRACTORS for card in EXTRACTORS[name].cards}


def _card(name: str) -> Weights:
    cards = _cards()
    if name not in cards:
        raise WeightsError(f"no weights {name!r}; there are: {', '.join(cards)}")
    return cards[name]


@weights.command("ls")
def weights_ls() -> None:
    """List the cards: what is here, its licence and origin."""
    from ...extractors.weights.kept import ls

    for row in ls(list(_cards().values())):
        click.echo(f"{row.name}\t{row.state}\t{row.licence}\t{row.origin}")


@weights.command("fetch")
@click.argument("name")
@click.option("--sha256", help="Where the card does not know it.")
def weights_fetch(name: str, sha256: str | None) -> None:
    """Download weights, check their hash, convert them to safetensors."""
    from ...extractors.weights.kept import fetch

    click.echo(str(fetch(_card(name), sha256=sha256)))


@weights.command("verify")
@click.argument("names", nargs=-1)
def weights_verify(names: tuple[str, ...]) -> None:
    """Hash weights again; exit code 1 if one is broken or missing."""
    from ...extractors.weights.kept import verify

    rows = [verify(_card(name)) for name in names or _cards()]
    for row in rows:
        click.echo(f"{row.name}\t{row.state}")
    wrong = {"broken", "missing"} if names else {"broken"}
    if any(row.state in wrong for row in rows):
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument(
    "what", type=click.Choice(["decode", "network", "extract", "engine", "index", "train"])
)
@click.option(
    "--repeats", type=click.IntRange(1), help="Turns (3), runs (1), or training steps (2)."
)
@click.option("--count", type=click.IntRange(1), help="Spans of engine, shards of index.")
@click.option("--device", default="cpu", help="Of networks.")
@click.option(
    "--footage",
    type=click.Path(exists=True, path_type=Path),
    help="Of decode and extract; else a scene is drawn.",
)
@json_option
def bench(
    what: str,
    repeats: int | None,
    count: int | None,
    device: str,
    footage: Path | None,
    as_json: bool,
) -> None:
    """Measure speed side by side in one run, and say how far it is from what the machine can do.

    \b
    decode   frames/s out of a video
    network  clips/s of every network and precision, against plain code and matmul
    extract  end to end: waiting of the device, patch cubes, memory
    engine   what a span costs beside its task (--count 10000)
    index    an index of --count 1000000 shards
    train    the weakly supervised detectors at paper size
    """
    from ..bench.decode import bench_decode
    from ..bench.engine import bench_engine, bench_index
    from ..bench.extract import bench_extract
    from ..bench.network import bench_network
    from ..bench.train import bench_train

    match what:
        case "decode":
            values, lines = bench_decode(footage, repeats=repeats or 3)
        case "network":
            values, lines = bench_network(repeats=repeats or 3, device=device)
        case "extract":
            values, lines = bench_extract(footage, repeats=repeats or 1, device=device)
        case "engine":
            values, lines = bench_engine(spans=count or 10_000)
        case "index":
            values, lines = bench_index(shards=count or 1_000_000)
        case _:
            values, lines = bench_train(steps=repeats or 2, device=device)
    _echo(lines, values, as_json)


@cli.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("demo"))
@click.option("--seed", type=int, default=0)
@click.option("--device", default="cpu")
@cache_option
def demo(out: Path, seed: int, device: str, cache: Path) -> None:
    """Draw a small surveillance scene, then run everything on it; prints AUC and the report."""
    from ..run.demo import run_demo

    for line in run_demo(out, cache, seed=seed, device=device):
        click.echo(line)


if __name__ == "__main__":
    main()
