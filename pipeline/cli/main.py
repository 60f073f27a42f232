"""The entry point: which command is in which file, and how errors end a command."""

from __future__ import annotations

import io
import logging
import sys
from importlib import import_module
from typing import Any

import click

from ...data_manifests.errors import VadpipeError
from ...data_manifests.plain_text import one_line, plain, shortened
from .options import CONTEXT
from .stopping import CODE, end_soon, say_stopped

# Command -> file and function. A file is imported when its command or its help is asked for.
COMMANDS = {
    "bench": "run:bench",
    "cache": "cache:cache",
    "choose": "choose:choose",
    "compare": "comparing:compare",
    "demo": "run:demo",
    "doctor": "doctor:doctor",
    "draw": "manifest:draw",
    "drift": "drift:drift",
    "evaluate": "detection:evaluate",
    "export": "export:export",
    "extract": "footage:extract",
    "feedback": "feedback:feedback",
    "fuse": "scoring:fuse",
    "import": "footage:import_command",
    "labels": "labels:labels",
    "list": "listing:list_command",
    "manifest": "manifest:manifest",
    "probe": "footage:probe",
    "render": "render:render",
    "report": "detection:report",
    "review": "review:review",
    "run": "run:run",
    "score": "scoring:score",
    "show": "show:show",
    "status": "footage:status",
    "threshold": "threshold:threshold",
    "train": "detection:train",
    "weights": "weights:weights",
}


class Commands(click.Group):
    """The group of all commands, imported one file at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f".{module}", __package__), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of a line; a mistyped name is refused with the likely one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from ...data_manifests.choices import likely

            ctx.fail(f"No such command {args[0]!r}{likely(COMMANDS, args[0])}")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(package_name="vadpipe")
def cli() -> None:
    """Video anomaly detection: features once, then small detectors from the cache."""


def main() -> None:
    """Run a command; an error that the user can act on is one message and exit code 1."""
    end_soon()
    _print_warnings()
    try:
        sys.exit(cli(standalone_mode=False) or 0)  # an Exit comes back as its code
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        sys.stderr.write(plain(said.getvalue()))  # it quotes arguments
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        say_stopped()
        sys.exit(CODE)
    except Exception as error:
        if (message := _message(error)) is None:
            raise
        _say(f"Error: {message}", style="bold red")
        sys.exit(1)


def _print_warnings() -> None:
    """Print warnings, of Python and of loggers that nothing else was set up for, to stderr."""
    logging.captureWarnings(True)
    if (printer := logging.lastResort) is not None:
        printer.setFormatter(_Plain())
        # Without a handler, Python gives this logger one that is mute.
        logging.getLogger("py.warnings").addHandler(printer)


class _Plain(logging.Formatter):
    """Warnings as they are, but for what a terminal would obey: they name files."""

    def format(self, record: logging.LogRecord) -> str:
        """The message of a record."""
        return plain(super().format(record))


def _message(error: Exception) -> str | None:
    """What an error tells the user; None where it is a fault of the program."""
    from pydantic import ValidationError

    from ...data_manifests.settings import in_words

    if isinstance(error, ValidationError):
        return in_words(error)
    if isinstance(error, VadpipeError):
        return str(error)
    if isinstance(error, MemoryError):
        said = shortened(str(error)) or "no more is said"
        return f"memory ran out ({said}): end other programs, or take a machine with more memory"
    return one_line(shortened(str(error))) if isinstance(error, OSError) else None


def _say(text: str, **style: Any) -> None:
    from ..engine.progress import tell

    tell(text, **style)


if __name__ == "__main__":
    main()
