"""The command about scores that have moved: drift."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .names import model_names, split_names
from .options import (
    ANY,
    FILE,
    OUT,
    PARTLY,
    cache_option,
    echo,
    engine_options,
    json_option,
    list_failures,
    open_target,
    probe_options,
)

if TYPE_CHECKING:
    from ...data_manifests.record import Manifest
    from ..drift import Drifted
    from ..engine.settings import Engine, ProbeOptions

MOVED, UNKNOWN = 4, 5  # exit codes


@click.command()
@click.argument("model", shell_complete=model_names)
@click.argument("footage", type=ANY)
@click.option(
    "-o",
    "--out",
    type=OUT,
    metavar="DIR",
    help="Score folder to keep. Without it the scores are forgotten; features stay in the cache.",
)
@click.option(
    "--labels",
    type=FILE,
    metavar="MANIFEST",
    help="Of a score folder: leave out the frames that this manifest labels abnormal.",
)
@click.option(
    "--split",
    shell_complete=split_names,
    metavar="NAME",
    help="Of a manifest. Without it test, where it has one.",
)
@engine_options
@probe_options
@cache_option
@json_option
def drift(
    model: str,
    footage: Path,
    out: Path | None,
    labels: Path | None,
    split: str | None,
    engine: Engine,
    probing: ProbeOptions,
    cache: Path,
    as_json: bool,
) -> None:
    """Have the scores of normal footage moved since training? Camera by camera.

    MODEL is a model folder, or the first letters of its name in the cache. FOOTAGE is normal
    footage that training did not see (a manifest, a folder, a video), or a score folder of MODEL.
    Videos that the manifest labels abnormal are left out. A score folder has no labels: all of it
    counts, but for the abnormal frames of --labels.

    Ends with code 4 if the scores of a camera have moved, with 3 if videos failed, and with 5 if
    it cannot be told of a camera.

    \b
    Example:
        vadpipe drift MODEL /archive/this-week
        vadpipe drift MODEL out --json
    """
    from ...data_manifests.table import read_manifest
    from ..drift import Drifted, compared
    from ..models import ModelFolder
    from ..scores.camera_drift import abnormal_of
    from ..scores.folder import ScoreFolder

    path = ModelFolder.find(cache, model).path
    with ExitStack() as stack:
        kept = Path(stack.enter_context(tempfile.TemporaryDirectory())) if out is None else out
        if ScoreFolder(footage).run_file.is_file():
            if out is not None:
                raise click.UsageError("--out goes with footage: this is a score folder already")
            abnormal = abnormal_of(None if labels is None else read_manifest(labels))
            done = Drifted(compared(ScoreFolder(footage), path, abnormal=abnormal), ())
        else:
            if labels is not None:
                raise click.UsageError("--labels goes with a score folder: footage has a manifest")
            done = _scored(path, open_target(footage, split), kept, cache, engine, probing)
        found = done.drift
        failures = {"failures": [dict(vars(failure)) for failure in done.failures]}
        echo([*found.lines(), *found.advice()], found.to_json() | failures, as_json)
        file = None if out is None else ScoreFolder(out).failures_file
        list_failures(list(done.failures), file)
    if found.moved:
        raise click.exceptions.Exit(MOVED)
    if done.failures:
        raise click.exceptions.Exit(PARTLY)
    if found.unknown:
        raise click.exceptions.Exit(UNKNOWN)


def _scored(
    model: Path,
    listed: Manifest,
    out: Path,
    cache: Path,
    engine: Engine,
    probing: ProbeOptions,
) -> Drifted:
    """Score footage, and compare."""
    from ..drift import find_drift
    from ..tables.probe import probe_to_use

    probed = probe_to_use(listed, cache, probing)
    command = " ".join(sys.argv)
    return find_drift(model, listed, probed, out, cache, engine=engine, command=command)
