"""The command that turns verdicts of the review page into training footage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .detection import told_of
from .names import model_names
from .options import (
    ANY,
    FOLDER,
    OUT_FILE,
    cache_option,
    device_option,
    echo,
    finish,
    json_option,
    probe_options,
)
from .outcome import outcome, voice

if TYPE_CHECKING:
    from ..engine.settings import ProbeOptions
    from ..feedback import Feedback
    from ..train import Trained


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
    shell_complete=model_names,
    metavar="MODEL",
    help="Model to fit again: its folder, or the beginning of its name in the cache. Without it "
    "the one that made SCORES.",
)
@click.option("--no-train", is_flag=True, help="Write the manifest only.")
@device_option
@probe_options
@json_option
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
    as_json: bool,
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

    done = apply_feedback(verdicts, scores, read_manifest(manifest_path))
    for line in done.lines():
        tell(line)
    if not done.added:
        raise FeedbackError("no rejected event can be trained on: nothing was written")
    written = write_manifest(done.manifest, out)
    say = voice(as_json)
    say(str(written))
    if no_train:
        echo([], _values(done, written, None, None), as_json)
        return
    named = model or (ScoreFolder(scores).run().get("model") or {}).get("folder")
    if not isinstance(named, str):
        raise FeedbackError(f"{scores} names no model (is it a fusion?): name one with --model")
    folder = ModelFolder.find(cache, named)
    probed = probe_to_use(done.manifest.select(split="train"), cache, probing)
    trained = fit_again(folder.path, done, probed, cache, device)
    say(str(trained.folder))
    told_of(trained)
    for line in keep_rule(folder.path, trained.folder, " ".join(sys.argv)):
        tell(f"threshold: {line}")
    source = click.get_current_context().get_parameter_source("cache")
    own_cache = cache if source is ParameterSource.COMMANDLINE else None
    command = learnt_command(scores, trained.folder, out, own_cache)
    tell(f"score with it: {command or 'vadpipe score MODEL TARGET -o NEW_FOLDER'}")
    echo([], _values(done, written, trained, command), as_json)
    finish(list(trained.missing), cache / "failures" / f"{out.stem}-train.parquet")


def _values(
    done: Feedback, written: Path, trained: Trained | None, command: str | None
) -> dict[str, Any]:
    """What was done, as JSON values."""
    from dataclasses import asdict

    made = [written] if trained is None else [written, trained.folder]
    return outcome(
        made,
        {"parts": len(done.added), "left_out": len(done.left_out), "tested": len(done.tested)},
        failures=() if trained is None else trained.missing,
        warnings=() if trained is None else trained.warnings,
        verdicts=dict(done.verdicts),
        seconds=done.seconds,
        left_out=[asdict(each) for each in done.left_out],
        tested=list(done.tested),
        manifest=str(written),
        model=None if trained is None else str(trained.folder),
        trained=trained is not None and trained.fresh,
        next=command,
    )
