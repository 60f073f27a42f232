"""Commands about detectors: train, score, fuse, evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..store.most_missing import MOST_MISSING
from .names import column_names, detector_names, map_names, model_names, split_names
from .options import (
    ANY,
    FOLDER,
    OUT,
    cache_option,
    device_option,
    echo,
    finish,
    json_option,
    open_target,
    probe_options,
    seed_option,
    set_option,
    smooth_option,
    weights_option,
)
from .outcome import outcome, voice

if TYPE_CHECKING:
    from ..engine.settings import ProbeOptions
    from ..scores.smoothing import Smoothing
    from ..train import Trained


@click.command()
@click.argument("detector", shell_complete=detector_names)
@click.argument("manifest_path", metavar="MANIFEST", type=ANY)
@click.option(
    "--features",
    multiple=True,
    metavar="ROLE=STORE",
    help="Feature set for a role, by name or first letters; needed if several would fit. May be "
    "repeated.",
)
@click.option("--config", type=ANY, help="TOML file with settings of the detector.")
@set_option
@weights_option
@seed_option
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    metavar="K",
    help="Train K models, with seeds N, N + 1, ... One if the detector draws nothing at random.",
)
@device_option
@click.option(
    "--holdout",
    type=click.FloatRange(0, 0.9),
    metavar="SHARE",
    help="Share of the normal videos that are held back to calibrate the threshold, 0 to 0.9. "
    "Without it 0.2; detectors that hold back none refuse it.",
)
@click.option(
    "--memory",
    type=click.IntRange(1),
    metavar="BYTES",
    help="Most bytes of training data kept on the device. Without it half of what is free there.",
)
@click.option(
    "--tensorboard",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write TensorBoard logs to this folder; needs vadpipe[tensorboard].",
)
@click.option(
    "--init",
    shell_complete=model_names,
    metavar="MODEL",
    help="Start from the weights of this model of the same detector: its folder, or the beginning "
    "of its name in the cache. For detectors with networks that say so.",
)
@click.option(
    "--max-missing",
    type=click.FloatRange(0, 1),
    default=MOST_MISSING,
    metavar="SHARE",
    help="Share of the training videos that may be left out because they cannot be read or have no "
    "features. They are listed, and the command ends with code 3.",
)
@click.option("--force", is_flag=True, help="Train again even if the model exists.")
@probe_options
@json_option
@cache_option
def train(
    detector: str,
    manifest_path: Path,
    features: tuple[str, ...],
    config: Path | None,
    settings: tuple[str, ...],
    weights: tuple[str, ...],
    seed: int,
    seeds: int,
    device: str,
    holdout: float | None,
    memory: int | None,
    tensorboard: Path | None,
    init: str | None,
    max_missing: float,
    force: bool,
    probing: ProbeOptions,
    as_json: bool,
    cache: Path,
) -> None:
    """Train a detector from the cache; prints the model folder.

    DETECTOR is a name (docs/detectors), MANIFEST names the videos. Only the split train is used.
    --weights is for detectors that start from a pretrained network.

    \b
    Example:
        vadpipe train knn ped2.parquet --set role=patch
        vadpipe train ssrl ucf.parquet --set steps=300 --seeds 3
    """
    from ...data_manifests.stored import read_toml
    from ...data_manifests.table import read_manifest
    from ...extractors.weights.slots import parse_choice
    from ..engine.progress import tell
    from ..run.key_value import parse_settings
    from ..tables.probe import probe_to_use
    from ..train import train_detector

    listed = read_manifest(manifest_path)
    chosen = {} if config is None else read_toml(config)
    probed = probe_to_use(listed.select(split="train"), cache, probing)
    models: list[dict[str, Any]] = []
    for drawn in range(seed, seed + seeds):
        done = train_detector(
            detector,
            listed,
            probed,
            cache,
            features=parse_settings(features),
            settings={**chosen, **parse_settings(settings)},
            weights=parse_choice(weights),
            seed=drawn,
            device=device,
            holdout=holdout,
            memory=memory,
            tensorboard=None if tensorboard is None else tensorboard / f"seed-{drawn}",
            force=force,
            init=init,
            max_missing=max_missing,
        )
        voice(as_json)(str(done.folder))
        models.append(told_of(done) | {"seed": drawn})
        if seeds > 1 and not done.draws:
            tell(f"{detector} draws nothing at random here: one model stands for all seeds")
            break
    made = [each["model"] for each in models]
    counts = {"models": len(models), "trained": sum(each["trained"] for each in models)}
    values = outcome(made, counts, failures=done.missing, models=models)
    echo([], values, as_json)
    finish(list(done.missing), cache / "failures" / f"{manifest_path.stem}-train.parquet")


def told_of(done: Trained) -> dict[str, Any]:
    """Say on stderr what a training did, and return it as JSON values."""
    from ..engine.progress import tell
    from ..tables.training import training_line

    facts = training_line(done.summary, done.folder.name)
    tell(f"{'trained' if done.fresh else 'this model is there already'}: {facts}")
    for warning in done.warnings:
        tell(warning)
    return {
        "model": str(done.folder),
        "trained": done.fresh,
        "summary": done.summary,
        "warnings": list(done.warnings),
    }


@click.command()
@click.argument(
    "scores",
    nargs=-1,
    required=True,
    type=FOLDER,
)
@click.argument("manifest_path", metavar="MANIFEST", type=ANY)
@click.option(
    "--split",
    shell_complete=split_names,
    default="test",
    metavar="NAME",
    help="Split of the manifest.",
)
@click.option(
    "--align",
    type=click.Choice(["auto", "exact", "pad16"]),
    default="auto",
    help="Frames to measure: those that a video has (exact), or 16 for every snippet (pad16). auto "
    "takes pad16 for weakly supervised models on 16-frame snippets.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(0, 100_000),
    default=1000,
    metavar="N",
    help="Bootstrap samples of videos for the 95 % intervals; 0: no intervals.",
)
@click.option(
    "--column",
    shell_complete=column_names,
    default="score",
    metavar="NAME",
    help="Score column to measure; see docs/score.md.",
)
@smooth_option("Smooth the scores of each video over time before they are measured.")
@click.option(
    "--tracks",
    type=ANY,
    metavar="PATH",
    help="CSV or folder of labelled tracks for RBDC and TBDC. Without it those that MANIFEST "
    "names.",
)
@click.option(
    "--map",
    "map_name",
    shell_complete=map_names,
    metavar="NAME",
    help="Make the boxes for RBDC and TBDC from this score map. Without it boxes of the detector, "
    "or its first map.",
)
@click.option(
    "--map-quantile",
    type=click.FloatRange(0, 1),
    default=0.98,
    metavar="Q",
    help="Cells of the map above this quantile of its values become boxes.",
)
@click.option(
    "--normalise",
    type=click.Choice(["none", "video"]),
    default="none",
    help="video scales the scores of each video to [0, 1] (min-max) before they are ranked.",
)
@click.option(
    "--scored-only",
    is_flag=True,
    help="Leave out frames without a score of their own (before the first and after the last "
    "scored one), with their labels. Without it they take the nearest score.",
)
@json_option
def evaluate(
    scores: tuple[Path, ...],
    manifest_path: Path,
    split: str,
    align: Any,
    bootstrap: int,
    column: str,
    smooth: Smoothing | None,
    tracks: Path | None,
    map_name: str | None,
    map_quantile: float,
    normalise: Any,
    scored_only: bool,
    as_json: bool,
) -> None:
    """Compare scores with frame labels: micro and macro AUC, AP, per category and video.

    With tracks of the anomalies also RBDC and TBDC, with pixel masks also by size.

    SCORES are score folders. Several of the same videos (one for each seed) print a line each, then
    mean and spread. MANIFEST states the labels.

    \b
    Example:
        vadpipe evaluate out ped2.parquet
        vadpipe evaluate seed0 seed1 seed2 ucf.parquet --align exact
        vadpipe evaluate out ped2.parquet --tracks ped2-tracks.csv
    """
    from ..evaluate import evaluate_runs
    from ..metrics.places import RegionChoice
    from ..tables.metrics import detail_lines, metrics_lines, runs_lines

    listed = open_target(manifest_path, split)
    runs = evaluate_runs(
        scores,
        listed,
        align=align,
        replicates=bootstrap,
        column=column,
        smooth=smooth,
        regions=RegionChoice(tracks, map_name, map_quantile),
        normalise=normalise,
        scored_only=scored_only,
    )
    if len(scores) > 1:
        echo(runs_lines(runs), runs.to_json(), as_json)
    else:
        (done,) = runs.runs.values()
        echo(metrics_lines(done) + detail_lines(done), done.to_json(), as_json)


@click.command()
@click.argument("scores", nargs=-1, type=FOLDER)
@click.argument(
    "manifest_path",
    metavar="[MANIFEST]",
    required=False,
    type=ANY,
)
@click.option(
    "-o",
    "--out",
    type=OUT,
    metavar="PATH",
    help="HTML file, or a folder for it. Without it SCORES/report.html.",
)
@click.option(
    "--heatmaps", is_flag=True, help="Also write the heat-maps as PNG files next to the page."
)
@click.option(
    "--column",
    shell_complete=column_names,
    default="score",
    metavar="NAME",
    help="Score column to show; see docs/score.md.",
)
@click.option(
    "--folder",
    type=OUT,
    metavar="DIR",
    help="Write the review page into this folder instead: events to watch and to judge. New, "
    "empty, or an earlier page, which is replaced.",
)
@click.option(
    "--pictures",
    type=click.IntRange(0, 10_000),
    default=300,
    metavar="N",
    help="With --folder: events and moments that get pictures, highest peaks first.",
)
@click.option(
    "--clips",
    type=click.IntRange(0, 10_000),
    default=100,
    metavar="N",
    help="With --folder: events and moments that get a short clip too.",
)
@click.option(
    "--scene-checks",
    type=FOLDER,
    metavar="SCORES",
    help="With --folder: score folder of tampering, whose events are shown beside the others.",
)
@set_option
@json_option
@cache_option
def report(
    scores: tuple[Path, ...],
    manifest_path: Path | None,
    out: Path | None,
    heatmaps: bool,
    column: str,
    folder: Path | None,
    pictures: int,
    clips: int,
    scene_checks: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    cache: Path,
) -> None:
    """Write the page: curves, events with thumbnails and heat-maps, ROC, settings.

    SCORES is a score folder. With MANIFEST, its labels are drawn. --set changes the style of the
    heat-maps. --folder writes a page to work on: see docs/review_page.md. It takes several SCORES
    of the same footage: the page is about the first, and draws the others beside it.

    \b
    Example:
        vadpipe report out ped2.parquet
        vadpipe report out --heatmaps --set upsample=bilinear --set scale=frame
        vadpipe report out ped2.parquet --folder out-review
        vadpipe report out-knn out-rtfm ped2.parquet --folder both
    """
    from ..report.heatmaps import HeatmapStyle
    from ..report.stage import write_report
    from ..run.key_value import parse_settings

    folders, manifest_path = _folders_of(scores, manifest_path)
    listed = None if manifest_path is None else open_target(manifest_path, None)
    style = HeatmapStyle.model_validate(parse_settings(settings))
    if folder is not None:
        if out is not None or heatmaps:
            raise click.UsageError("--folder writes another page than --out and --heatmaps")
        from ..review.pictures import Limits
        from ..review.stage import write_review

        page = write_review(
            folders[0],
            folder,
            manifest=listed,
            column=column,
            beside=folders[1:],
            limits=Limits(pictures=pictures, clips=clips),
            style=style,
            cache=cache,
            scene_checks=scene_checks,
        )
        echo([str(page)], outcome([page], {"score_folders": len(folders)}), as_json)
        return
    if scene_checks is not None:
        raise click.UsageError("--scene-checks goes with --folder, the review page")
    if len(folders) > 1:
        raise click.UsageError(
            "several SCORES are shown by the review page: name a --folder for it"
        )
    page = write_report(
        folders[0], out, manifest=listed, column=column, style=style, heatmap_files=heatmaps
    )
    echo([str(page)], outcome([page], {"score_folders": 1}), as_json)


def _folders_of(scores: tuple[Path, ...], last: Path | None) -> tuple[list[Path], Path | None]:
    """The score folders and the manifest: what is named last may be either."""
    from ..scores.folder import ScoreFolder

    if last is None:
        raise click.UsageError("Missing argument 'SCORES'.")
    if not scores or ScoreFolder(last).run_file.is_file():
        return [*scores, last], None
    return list(scores), last
