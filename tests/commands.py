"""All commands of the command line, for tests that hold for each."""

from __future__ import annotations

from collections.abc import Iterator

import click

from vadpipe.pipeline.cli.main import cli


def commands(group: click.Command = cli, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that can be called, by its words."""
    if not isinstance(group, click.Group):
        yield name.strip(), group
        return
    context = click.Context(group)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
        yield from commands(command, f"{name} {word}")
