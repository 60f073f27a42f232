"""Shared options reach the library as the objects that they describe."""

from __future__ import annotations

from typing import Any

import click
from click.testing import CliRunner

from vadpipe.pipeline.cli.options import aligned, engine_options, probe_options
from vadpipe.pipeline.engine.settings import Engine, ProbeOptions


def parsed(*decorators: Any, arguments: list[str]) -> dict[str, Any]:
    """What a command with these options receives."""
    received: dict[str, Any] = {}

    def command(**values: Any) -> None:
        received.update(values)

    for decorator in reversed(decorators):
        command = decorator(command)
    result = CliRunner().invoke(click.command()(command), arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return received


def test_without_options_all_are_the_defaults() -> None:
    got = parsed(engine_options, probe_options, arguments=[])
    assert got == {"engine": Engine(), "probing": ProbeOptions()}


def test_limits_of_the_engine_hold_for_the_probe_as_well() -> None:
    arguments = ["--limit", "hours=2", "--retry-quarantined", "--hash", "full", "--streams", "3"]
    got = parsed(engine_options, probe_options, arguments=arguments)
    assert got["engine"].limits.hours == got["probing"].limits.hours == 2
    assert got["engine"].retry_quarantined and got["probing"].retry_quarantined
    assert got["probing"].hash_mode == "full" and got["engine"].streams == 3


def test_a_probe_alone_has_no_engine() -> None:
    got = parsed(probe_options, arguments=["--image-fps", "10"])
    assert got == {"probing": ProbeOptions(image_fps=10)}


def test_cells_stand_below_each_other() -> None:
    text = "title\na\tbb\tc\nlonger\tb\tc\n\nx\ty\n"
    assert aligned(text) == "title\na       bb  c\nlonger  b   c\n\nx  y\n"
    assert aligned("no table") == "no table"
