"""Commands that write score folders: score, fuse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .names import model_names, split_names
from .options import (
    ANY,
    FOLDER,
    OUT,
    cache_option,
    echo,
    engine_options,
    finish,
    json_option,
    open_target,
    probe_options,
    smooth_option,
)
from .outcome import outcome, voice
from .threshold import rule_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...data_manifests.record import Manifest
    from ..engine.settings import Engine, ProbeOptions
    from ..score import Scored
    from ..scores.events import EventConfig
    from ..scores.smoothing import Smoothing
    from ..store.failures import Failure


@click.command()
@click.argument("model", shell_complete=model_names)
@click.argument("target", type=ANY)
@click.option("-o", "--out", type=OUT, required=True, metavar="DIR", help="Score folder to write.")
@click.option(
    "--split",
    shell_complete=split_names,
    metavar="NAME",
    help="Split of the manifest to score. Without it test if the manifest has that, else all.",
)
@rule_options
@smooth_option("Smooth the scores of each video over time, and calibrate the threshold so.")
@click.option(
    "--weights",
    multiple=True,
    metavar="[SLOT=]FILE",
    help="Weights file of the extractor; needed if the model was trained with a file of yours. "
    "SLOT= says for which network if it has several.",
)
@click.option("--no-maps", is_flag=True, help="Write no score maps, so no heat-maps either.")
@click.option(
    "--discard-features",
    is_flag=True,
    help="Delete the features of a video as soon as it is scored.",
)
@click.option(
    "--max-bytes",
    type=int,
    metavar="N",
    help="Refuse to run if a feature set would take more than N bytes; needed where features are "
    "computed from pixels that are kept, unless features are discarded.",
)
@click.option(
    "--prune",
    is_flag=True,
    help="Delete the results of videos that TARGET does not list, and print them. Refused if these "
    "are more than half of the results.",
)
@click.option("--yes", is_flag=True, help="With --prune: also if they are more than half.")
@engine_options
@probe_options
@json_option
@cache_option
def score(
    model: str,
    target: Path,
    out: Path,
    split: str | None,
    events: EventConfig,
    smooth: Smoothing | None,
    weights: tuple[str, ...],
    no_maps: bool,
    discard_features: bool,
    max_bytes: int | None,
    prune: bool,
    yes: bool,
    engine: Engine,
    probing: ProbeOptions,
    as_json: bool,
    cache: Path,
) -> None:
    """Score a video, a folder or a manifest; what is missing is extracted first.

    MODEL is a model folder, or the first letters of its name in the cache. TARGET is a manifest,
    or footage: a video or a folder.

    Writes scores.parquet, events.parquet and report.html. A second run scores what is new, and adds
    it to what is there. Results are deleted with --prune only.

    \b
    Example:
        vadpipe score MODEL some.mp4 -o out
        vadpipe score MODEL /archive -o out --discard-features
        vadpipe score MODEL /archive -o out --smooth gaussian:0.5s
        vadpipe score MODEL /archive -o out --prune
    """
    from ...extractors.weights.slots import parse_choice
    from ..evaluate import evaluate_if_labelled
    from ..models import ModelFolder
    from ..report.stage import write_report
    from ..score import score_footage
    from ..scores.folder import ScoreFolder
    from ..tables.metrics import metrics_lines
    from ..tables.probe import probe_to_use

    if yes and not prune:
        raise click.UsageError("--yes goes with --prune")
    listed = _open_to_score(target, split, out)
    probed = probe_to_use(listed, cache, probing)
    done = score_footage(
        ModelFolder.find(cache, model).path,
        listed,
        probed,
        out,
        cache,
        engine=engine,
        events=events,
        smooth=smooth,
        weights=parse_choice(weights),
        keep_maps=not no_maps,
        discard_features=discard_features,
        max_bytes=max_bytes,
        prune=prune,
        prune_most=yes,
        command=" ".join(sys.argv),
    )
    measured, failures = evaluate_if_labelled(out, listed)
    failures = [*done.failures, *failures]
    lines = _lines(done) + (metrics_lines(measured) if measured is not None else [])
    voice(as_json)("\n".join(lines))
    page = write_report(out, manifest=listed)
    metrics = None if measured is None else measured.to_json()
    echo([str(page)], _values(done, page, failures) | {"metrics": metrics}, as_json)
    finish(failures, ScoreFolder(out).failures_file)


def _lines(done: Scored) -> list[str]:
    """How many videos were scored and events found, the threshold, and what to mind."""
    from ...data_manifests.plain_text import counted
    from ..scores.summary import new_scene_lines

    scored = counted(len(done.videos), "video")
    lines = [f"{scored} scored ({done.fresh:,} new), {counted(done.events, 'event')}"]
    if done.rule:
        lines.append(f"threshold {done.threshold:.6g} ({done.rule})")
    if done.kept:
        lines.append(f"{len(done.kept)} of them are not listed now; --prune deletes their results")
    lines += [f"threshold: {warning}" for warning in done.warnings]
    lines += new_scene_lines({"new_scenes": done.new_scenes})
    return lines + (done.boxes.lines() if done.boxes is not None else [])


def _values(done: Scored, page: Path, failures: Sequence[Failure]) -> dict[str, Any]:
    """The same as JSON values."""
    counts = {
        "videos": len(done.videos),
        "new": done.fresh,
        "events": done.events,
        "kept": len(done.kept),
        "pruned": len(done.pruned),
        "shards": done.extracted,
    }
    return outcome(
        [done.out, page],
        counts,
        failures=failures,
        warnings=done.warnings,
        threshold=done.threshold,
        rule=done.rule,
        kept=done.kept,
        pruned=done.pruned,
        new_scenes=done.new_scenes,
        boxes=None if done.boxes is None else done.boxes.model_dump(mode="json"),
    )


def _open_to_score(target: Path, split: str | None, out: Path) -> Manifest:
    """What is to be scored; a folder without footage where some was scored is a failure to list."""
    from ...data_manifests.footage import NothingFound
    from ..scores.folder import ScoreFolder

    try:
        return open_target(target, split)
    except NothingFound as error:
        if not ScoreFolder(out).video_ids():
            raise
        return error.manifest


@click.command()
@click.argument("scores", nargs=-1, required=True, type=FOLDER)
@click.option("-o", "--out", type=OUT, required=True, metavar="DIR", help="Score folder to write.")
@click.option(
    "--weight",
    "weights",
    multiple=True,
    metavar="NAME=W",
    help="Weight of a score folder in the sum, by the last name of its path; 1 without it. May be "
    "repeated.",
)
@click.option(
    "--method",
    type=click.Choice(["sum", "max"]),
    default="sum",
    help="sum: the weighted mean of the quantiles; max: the largest of them.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=COLUMN",
    help="Score column of a score folder that is used instead of score. May be repeated.",
)
@rule_options
@json_option
def fuse(
    scores: tuple[Path, ...],
    out: Path,
    weights: tuple[str, ...],
    method: Any,
    columns: tuple[str, ...],
    events: EventConfig,
    as_json: bool,
) -> None:
    """Combine score folders of the same footage into one.

    SCORES are score folders, one for each model. Every score is replaced by its quantile among the
    normal scores that its model held out, so that scales do not matter.

    \b
    Example:
        vadpipe fuse out-knn out-rtfm -o out-both --weight out-knn=2
        vadpipe fuse out-seed0 out-seed1 out-seed2 -o out-all --method max
    """
    from ...data_manifests.plain_text import counted
    from ..fuse import fuse_scores
    from ..report.stage import write_report
    from ..scores.folder import ScoreFolder

    done = fuse_scores(
        scores,
        out,
        weights={name: _number(name, value) for name, value in _pairs(weights).items()},
        method=method,
        columns=_pairs(columns),
        events=events,
        command=" ".join(sys.argv),
    )
    lines = [f"{counted(len(done.videos), 'video')} fused, {counted(done.events, 'event')}"]
    if done.kept:
        lines.append(f"{len(done.kept)} of them were fused earlier: a part lacks them now")
    lines += [f"threshold: {warning}" for warning in done.warnings]
    voice(as_json)("\n".join(lines))
    page = write_report(out)
    counts = {"videos": len(done.videos), "events": done.events, "kept": len(done.kept)}
    notes: dict[str, Any] = {"failures": done.failures, "warnings": done.warnings}
    echo([str(page)], outcome([out, page], counts, **notes, kept=done.kept), as_json)
    finish(done.failures, ScoreFolder(out).failures_file)


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE texts as a table."""
    pairs = {}
    for text in texts:
        name, sign, value = text.rpartition("=")
        if not (sign and name and value):
            raise click.UsageError(f"{text!r} is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"the weight of {name} is {text!r}, not a number") from None
