"""The command reference of the documentation, made from the commands themselves.

`python -m vadpipe.pipeline.cli.reference FILE` writes it. It lies next to the commands because it
needs nothing but them, and so is checked like all other code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click

from .main import cli

HEAD = """\
# Commands

Made from the commands by `make docs`; edit the help texts in `pipeline/cli/`, not this page.
Every command prints its part with `--help`.
"""


def reference() -> str:
    """The whole page, as Markdown."""
    parts = [HEAD]
    for name, context in commands():
        parts.append(_section(name, context))
    return "\n".join(parts)


def commands(
    group: click.Group = cli, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Context]]:
    """Every command below a group, a group before its commands: full name and context."""
    if parent is None:
        parent = click.Context(group, info_name="vadpipe", show_default=True)
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None, f"{name} is listed but does not exist"
        context = click.Context(command, info_name=name, parent=parent)
        yield context.command_path, context
        if isinstance(command, click.Group):
            yield from commands(command, context)


def _section(name: str, context: click.Context) -> str:
    command = context.command
    level = "##" if name.count(" ") == 1 else "###"
    lines = [f"{level} {name}", ""]
    if not isinstance(command, click.Group):
        usage = " ".join(command.collect_usage_pieces(context))
        lines += [f"`{name} {usage}`", ""]
    lines += [*_text(command.help or ""), ""]
    options = [
        record
        for option in command.params
        if isinstance(option, click.Option)
        if (record := option.get_help_record(context)) is not None
    ]
    if options:
        lines += ["| option | meaning |", "| --- | --- |"]
        lines += [f"| `{_cell(names)}` | {_cell(text)} |" for names, text in options]
        lines.append("")
    return "\n".join(lines)


def _text(help_text: str) -> list[str]:
    """A help text as Markdown: what click must not wrap is a block of code."""
    lines: list[str] = []
    verbatim = False
    for line in cleandoc(help_text).splitlines():
        if line.strip() == "\b":
            verbatim = True
        elif not line.strip():
            verbatim = False
            lines.append("")
        elif line.strip() == "Example:":
            lines += ["Example:", ""]
        elif verbatim:
            lines.append(line if line.startswith("    ") else f"    {line}")
        else:
            lines.append(line)
    return lines


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
