"""The command that lists what there is by name."""

from __future__ import annotations

from pathlib import Path

import click

from .names import dataset_names, detector_names, extractor_names, model_names
from .options import cache_option, echo, json_option


@click.group("list")
def list_command() -> None:
    """List extractors, detectors, data sets and models; with a name, all about one of them."""


def _show(kind: str, name: str | None, as_json: bool) -> None:
    from ..tables.listing import described, described_lines, listed, listed_lines

    if name is None:
        rows = listed(kind)
        echo(listed_lines(rows), {kind: rows}, as_json)
    else:
        facts = described(kind, name)
        echo(described_lines(facts), facts, as_json)


@list_command.command("extractors")
@click.argument("name", required=False, shell_complete=extractor_names)
@json_option
def list_extractors(name: str | None, as_json: bool) -> None:
    """List extractors: name, description, distribution.

    With NAME: settings, presets, clips and arrays, networks with their weights.

    \b
    Example:
        vadpipe list extractors
        vadpipe list extractors patch_cubes
    """
    _show("extractors", name, as_json)


@list_command.command("detectors")
@click.argument("name", required=False, shell_complete=detector_names)
@json_option
def list_detectors(name: str | None, as_json: bool) -> None:
    """List detectors: name, description, distribution.

    With NAME: settings with their source in the paper, features that it needs, labels that it
    learns from, networks with their weights.

    \b
    Example:
        vadpipe list detectors ssrl
    """
    _show("detectors", name, as_json)


@list_command.command("datasets")
@click.argument("name", required=False, shell_complete=dataset_names)
@json_option
def list_datasets(name: str | None, as_json: bool) -> None:
    """List data sets: name, description, distribution.

    With NAME: the options of `vadpipe manifest --set`, and what the folder must look like.

    \b
    Example:
        vadpipe list datasets ucf_crime
    """
    _show("datasets", name, as_json)


@list_command.command("models")
@click.argument("name", required=False, shell_complete=model_names)
@cache_option
@json_option
def list_models(name: str | None, cache: Path, as_json: bool) -> None:
    """List the models of a cache: name, detector, seed, features, threshold, size.

    With NAME (or its first letters): also the settings, and what it was trained on. The threshold
    is that of the default quantile.

    \b
    Example:
        vadpipe list models
    """
    from ..tables.listing import model_details, model_lines, models, models_lines

    if name is None:
        rows = models(cache)
        echo(models_lines(rows) or [f"no models in {cache}"], {"models": rows}, as_json)
    else:
        facts = model_details(cache, name)
        echo(model_lines(facts), facts, as_json)
