"""The command that turns verdicts of the review page into training footage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from .options import (
    ANY,
    FOLDER,
    OUT_FILE,
    cache_option,
    device_option,
    finish,
    probe_options,
    put,
)

if TYPE_CHECKING:
    from ..engine.settings import ProbeOptions


@click.command()
@click.argument("verdicts", type=ANY)
@click.argument("scores", type=FOLDER)
@click.argument("manifest_path", metavar="MANIFEST", type=ANY)
@click.option(
    "-o",
    "--out",
    type=OUT_FILE,
    required=True,
    metavar="FILE",
    help="New manifest (.parquet or .csv): MANIFEST and the rejected events.",
)
@click.option(
    "--model",
    metavar="MODEL",
    help="Model to fit again: its folder, or the beginning of its name in the cache. Without it "
    "the one that made SCORES.",
)
@click.option("--no-train", is_flag=True, help="Write the manifest only.")
@device_option
@probe_options
@cache_option
def feedback(
    verdicts: Path,
    scores: Path,
    manifest_path: Path,
    out: Path,
    model: str | None,
    no_train: bool,
    device: str,
    probing: ProbeOptions,
    cache: Path,
) -> None:
    """Train again with rejected events as normal footage; prints manifest and model.

    VERDICTS is the JSON file of the review page, SCORES the score folder that the page was written
    of, MANIFEST what the model was trained on. Accepted and unsure events change nothing.

    \b
    Example:
        vadpipe feedback verdicts.json out site.parquet -o site-2.parquet
    """
    from ...data_manifests.table import read_manifest, write_manifest
    from ..engine.progress import tell
    from ..feedback import FeedbackError, apply_feedback, fit_again, keep_rule
    from ..models import ModelFolder
    from ..run.review_kept import learnt_command
    from ..scores.folder import ScoreFolder
    from ..tables.probe import probe_to_use
    from ..tables.training import training_line

    done = apply_feedback(verdicts, scores, read_manifest(manifest_path))
    for line in done.lines():
        tell(line)
    if not done.added:
        raise FeedbackError("no rejected event can be trained on: nothing was written")
    put(str(write_manifest(done.manifest, out)))
    if no_train:
        return
    named = model or (ScoreFolder(scores).run().get("model") or {}).get("folder")
    if not isinstance(named, str):
        raise FeedbackError(f"{scores} names no model (is it a fusion?): name one with --model")
    folder = ModelFolder.find(cache, named)
    probed = probe_to_use(done.manifest.select(split="train"), cache, probing)
    trained = fit_again(folder.path, done, probed, cache, device)
    put(str(trained.folder))
    facts = training_line(trained.summary, trained.folder.name)
    tell(f"{'trained' if trained.fresh else 'this model is there already'}: {facts}")
    for warning in trained.warnings:
        tell(warning)
    for line in keep_rule(folder.path, trained.folder, " ".join(sys.argv)):
        tell(f"threshold: {line}")
    source = click.get_current_context().get_parameter_source("cache")
    own_cache = cache if source is ParameterSource.COMMANDLINE else None
    command = learnt_command(scores, trained.folder, out, own_cache)
    tell(f"score with it: {command or 'vadpipe score MODEL TARGET -o NEW_FOLDER'}")
    finish(list(trained.missing), cache / "failures" / f"{out.stem}-train.parquet")
