"""The command that looks at the machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ...data_manifests.plain_text import counted
from .options import cache_option, echo, json_option


@click.command()
@cache_option
@json_option
def doctor(cache: Path, as_json: bool) -> None:
    """Look at this machine: packages, codecs, devices, memory, cache, free space, weights.

    Nothing is left on it. Code 1 if something is a problem; warnings leave 0.

    \b
    Example:
        vadpipe doctor
    """
    from ..doctor import examine

    found = examine(cache)
    width = max(len(each.check) for each in found)
    lines = [
        f"{each.state:8} {each.check:{width}}  {each.said}"
        + (f"\n{'':{width + 11}}-> {each.advice}" if each.advice else "")
        for each in found
    ]
    problems = sum(each.state == "problem" for each in found)
    warnings = sum(each.state == "warning" for each in found)
    lines.append(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}")
    echo(lines, {"findings": [asdict(each) for each in found]}, as_json)
    if problems:
        raise click.exceptions.Exit(1)
