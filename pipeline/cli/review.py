"""The command for footage of one's own: review."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .names import model_names
from .options import (
    ANY,
    OUT,
    cache_option,
    echo,
    engine_options,
    finish,
    json_option,
    probe_options,
)
from .outcome import Said, outcome, voice
from .threshold import rule_options

if TYPE_CHECKING:
    from ...extractors.weights.cards import Weights
    from ..engine.settings import Engine, ProbeOptions
    from ..run.review import Reviewed
    from ..scores.events import EventConfig


@click.command()
@click.argument("target", type=ANY)
@click.option(
    "-o",
    "--out",
    type=OUT,
    required=True,
    metavar="DIR",
    help="Folder of the recipe, the scores and the page.",
)
@click.option(
    "--normal",
    type=ANY,
    metavar="NORMAL",
    help="Folder, file or manifest of footage that is known to be normal. Without it the first "
    "part of each camera's footage trains.",
)
@click.option(
    "--model",
    shell_complete=model_names,
    metavar="MODEL",
    help="A model that is there already: nothing is trained but the checks of the camera, if "
    "--normal names footage for them. The review in DIR goes on with it.",
)
@click.option(
    "--learnt",
    type=ANY,
    metavar="MANIFEST",
    help="What `vadpipe feedback` wrote, with its --model: the next feedback builds on it.",
)
@click.option(
    "--features",
    type=click.Choice(["auto", "objects", "motion", "patches"]),
    default="auto",
    help="What the detector looks at. auto: objects if yolov3_tiny finds some in the normal "
    "footage, else patches. motion needs no weights.",
)
@click.option(
    "--scene-from",
    metavar="folder|REGEX",
    help="What tells cameras apart, as in `vadpipe manifest`. Without it the first folder below "
    "TARGET, where videos lie in some.",
)
@click.option(
    "--scene-checks/--no-scene-checks",
    default=None,
    help="Check the camera too: covered, moved, blurred, dark, a still picture, something left "
    "behind. On by default; a later run keeps to what was said.",
)
@click.option("--retrain", is_flag=True, help="Forget what an earlier run in DIR has chosen.")
@click.option("--yes", is_flag=True, help="Download missing weights without asking.")
@rule_options
@engine_options
@probe_options
@json_option
@cache_option
def review(
    target: Path,
    out: Path,
    normal: Path | None,
    model: str | None,
    learnt: Path | None,
    features: Any,
    scene_from: str | None,
    scene_checks: bool | None,
    retrain: bool,
    yes: bool,
    events: EventConfig,
    engine: Engine,
    probing: ProbeOptions,
    as_json: bool,
    cache: Path,
) -> None:
    """Look at footage of your own: from a folder to the page in one command.

    TARGET is a folder, a file or a manifest. Lists and opens the files, tells cameras apart, trains
    on normal footage, scores the rest and writes the page. Run again, it takes new files and keeps
    the model. What it does is a recipe, DIR/review.toml, which vadpipe run repeats.

    \b
    Example:
        vadpipe review /archive -o out
        vadpipe review /new --normal /quiet -o out --budget 5
        vadpipe review /new --model MODEL -o out
    """
    from ..run.listing import ended_lines
    from ..run.review import ReviewAsked, review_footage
    from ..run.review_kept import CHOSEN

    if model is not None and features != "auto":
        raise click.UsageError("--model is trained already: leave out --features")
    if learnt is not None and (model is None or retrain or not (out / CHOSEN).is_file()):
        raise click.UsageError(
            "--learnt is for the review that is in DIR, with the --model of the feedback and "
            "without --retrain"
        )
    asked = ReviewAsked(
        *(target, out, cache, normal, model, features, scene_from, retrain, events, engine),
        probing,
        scene_checks,
        learnt,
    )
    say = voice(as_json)
    done = review_footage(
        asked,
        fetch=lambda cards: _fetch(cards, cache, yes=yes, say=say),
        say=say,
        ended=lambda end: say("\n".join(ended_lines(end))),
    )
    if as_json:  # without, everything is said already
        echo([], _values(done), as_json)
    if done.run.errors:
        raise click.exceptions.Exit(1)
    finish(done.run.failures, done.run.folder.failures_file)


def _values(done: Reviewed) -> dict[str, Any]:
    """What a review did, as JSON values; a page that was not written is none."""
    page, run = done.page if done.page.is_file() else None, done.run
    return outcome(
        [path for path in (page, done.recipe) if path is not None],
        run.counts(),
        failures=run.failures,
        warnings=dict.fromkeys([*done.warnings, *run.warnings]),
        page=None if page is None else str(page),
        recipe=str(done.recipe),
        model=None if done.model is None else str(done.model),
        **run.to_json(),
    )


def _fetch(cards: Sequence[Weights], cache: Path, *, yes: bool, say: Said) -> None:
    """Download weights that are missing, if the user agrees.

    Raises:
        WeightsError: they are missing and may not be downloaded, or cannot be.
    """
    from ...extractors.weights.cards import WeightsError
    from ...extractors.weights.fetch import fetch
    from ...extractors.weights.kept import ls

    missing = [
        card for card, row in zip(cards, ls(cards, cache), strict=True) if row.state != "present"
    ]
    for card in missing:
        say(f"weights {card.name} are not on this machine: {card.origin}; licence: {card.licence}")
    if not missing:
        return
    names = ", ".join(card.name for card in missing)
    asking = sys.stdin.isatty() and sys.stderr.isatty()
    if not yes and not (asking and click.confirm(f"Download {names}?", err=True)):
        first = missing[0].name
        raise WeightsError(
            f"weights {names} are needed and were not downloaded: add --yes, fetch them with "
            f"`vadpipe weights fetch {first}`, or look at motion alone with --features motion, "
            "which needs none"
        )
    for card in missing:
        say(str(fetch(card, cache)))
