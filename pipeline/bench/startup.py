"""CPU time to start the command line, next to that of Python itself and of `import click`."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .race import hardware, heading

ENTRY = "from vadpipe.pipeline.cli.main import main; main()"  # what the script `vadpipe` does
EMPTY = "python -c pass"
CLICK = "import click"
BASES = (EMPTY, CLICK)  # what commands are compared with
LEAST_SECONDS = 1e-4  # of the clock
COMMANDS = {
    EMPTY: ["-c", "pass"],
    CLICK: ["-c", "import click"],
    "vadpipe --version": ["-c", ENTRY, "--version"],
    "vadpipe --help": ["-c", ENTRY, "--help"],
    "vadpipe extract --help": ["-c", ENTRY, "extract", "--help"],
}


def bench_startup(*, repeats: int = 20) -> tuple[dict[str, Any], list[str]]:
    """CPU seconds (user and system) of each command, all in turn.

    How long Python takes to start depends on the packages of the environment (its .pth files), so
    that it is taken off before a command is compared with `import click`, which it cannot do
    without.

    Each command starts once beforehand, so that bytecode exists, as it does after an installation.
    The bytecode goes to a temporary folder: nothing is written next to the sources.

    Args:
        repeats:
            Starts of each command.

    Returns:
        Values for machines, and lines for people.
    """
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        for turn in range(-1, repeats):
            for name, arguments in COMMANDS.items():
                spent = cpu_seconds([sys.executable, "-P", *arguments], environment)
                if turn >= 0:
                    seconds[name].append(spent)
    rows = {
        name: {
            "best_seconds": min(each),
            "median_seconds": median(each),
            "best_ratio": min(each) / min(seconds[EMPTY]),
            "median_ratio": median(each) / median(seconds[EMPTY]),
            "to_click": _own(each, seconds) / _own(seconds[CLICK], seconds),
        }
        for name, each in seconds.items()
    }
    values = {"hardware": hardware(), "repeats": repeats, "commands": rows}
    lines = heading("cpu", f"CPU time, best / median of {repeats}, all in turn")
    lines += [
        f"{name:24}{1e3 * row['best_seconds']:8.1f} / {1e3 * row['median_seconds']:8.1f} ms"
        f"   {row['best_ratio']:.1f} / {row['median_ratio']:.1f} x {EMPTY}, after the start "
        f"{row['to_click']:.1f} x {CLICK}"
        for name, row in rows.items()
    ]
    return values, lines


def _own(each: Sequence[float], seconds: Mapping[str, Sequence[float]]) -> float:
    """Median CPU seconds after Python has started, at least a tick of the clock."""
    return max(LEAST_SECONDS, median(each) - median(seconds[EMPTY]))


def cpu_seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """User and system time of a command and of all processes that it starts.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
