"""The command about thresholds, and the options that say where a threshold is."""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from .names import model_names
from .options import OUT_FILE, Command, cache_option, echo, json_option

if TYPE_CHECKING:
    from pydantic import ValidationError

    from ..scores.events import EventConfig

_RULES = (
    click.option(
        "--quantile",
        type=float,
        metavar="Q",
        help="The threshold is this quantile of the normal scores kept with the model.",
    ),
    click.option(
        "--value", type=float, metavar="V", help="The threshold is this score of the detector."
    ),
    click.option(
        "--budget",
        type=float,
        metavar="N",
        help="The threshold makes at most N events per camera and day of held-out normal footage.",
    ),
    click.option(
        "--extreme",
        type=float,
        metavar="RATE",
        help="The same for a RATE that is rarer than the held-out footage shows, by a "
        "distribution that is fitted to its highest scores.",
    ),
    click.option(
        "--release-quantile",
        type=float,
        metavar="Q",
        help="An event goes on while scores are above this quantile; no threshold but --value is "
        "below it. Without it 0.95.",
    ),
)


def rule_options(command: Command) -> Command:
    """Where the threshold is. The command receives one `events`, which names a rule or none."""

    @wraps(command)
    def with_events(**values: Any) -> Any:
        from pydantic import ValidationError

        from ..scores.events import RULES, EventConfig

        own = {name: values.pop(name) for name in (*RULES, "release_quantile")}
        given = {name: value for name, value in own.items() if value is not None}
        if len(named := [f"--{name}" for name in RULES if name in given]) > 1:
            raise click.UsageError(f"{' and '.join(named)}: name one")
        if "quantile" in given and "release_quantile" not in given:
            release = EventConfig.model_fields["release_quantile"].default
            given["release_quantile"] = min(release, given["quantile"])
        try:
            events = EventConfig(**given)
        except ValidationError as error:
            raise click.UsageError(_of_options(error)) from None
        return command(events=events, **values)

    for option in reversed(_RULES):
        option(with_events)
    return cast(Command, with_events)


def _of_options(error: ValidationError) -> str:
    """What is wrong with the values of options, by the names of the options."""
    lines = []
    for each in error.errors(include_url=False):
        text = each["msg"].removeprefix("Value error, ")
        if each["loc"]:
            option = f"--{'.'.join(map(str, each['loc'])).replace('_', '-')}"
            text = f"{option}: {text[:1].lower()}{text[1:]}, not {each['input']!r}"
        lines.append(text)
    return "; ".join(lines)


@click.command()
@click.argument("model", shell_complete=model_names)
@rule_options
@click.option(
    "--plot",
    type=OUT_FILE,
    metavar="FILE",
    help="Draw stated against measured rates, each held-out video left out once: .png, .svg, .pdf.",
)
@cache_option
@json_option
def threshold(
    model: str, events: EventConfig, plot: Path | None, cache: Path, as_json: bool
) -> None:
    """Choose the threshold of a model again, without training; says how far it can be trusted.

    MODEL is a model folder, or the first letters of its name in the cache. The rule is kept with
    the model, and later scores use it; parts that are scored already stay. Without a rule, the
    present one is shown and nothing is kept.

    \b
    Example:
        vadpipe threshold MODEL --budget 2
        vadpipe threshold MODEL --extreme 0.1 --plot calibration.png
        vadpipe threshold MODEL
    """
    from ..engine.progress import tell
    from ..models import ModelFolder
    from ..threshold import fit_threshold

    folder = ModelFolder.find(cache, model).path
    done = fit_threshold(folder, events, plot=plot, command=" ".join(sys.argv))
    echo([str(folder), *done.lines()], done.to_json(), as_json)
    for warning in done.chosen.warnings:
        tell(f"threshold: {warning}")
    if done.plot is not None:
        tell(str(done.plot))
    if not done.kept:
        tell("nothing was changed: name a rule, as --budget 2")
