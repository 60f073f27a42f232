"""RunFolder: the files of a run, and what says that a node of it is done."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from ...data_manifests.atomic import write_text
from ...data_manifests.stored import read_json
from ..engine.settings import cpu_count
from ..scores.folder import ScoreFolder
from ..scores.of_run import ENVIRONMENT, SCORES
from ..store.errors import StoreError
from ..store.failures import Failure, write_failures
from ..store.names import checked_name

PACKAGES = ("vadpipe", "torch", "torchvision", "numpy", "av", "h5py", "scikit-learn")


@dataclass(frozen=True)
class Done:
    """What is kept of a node that has ended.

    Attributes:
        key: of the node when it ran.
        lines: that say what it did.
        failures: videos that failed in it.
        facts: what nodes after it and the table of results need.
    """

    key: str
    lines: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    facts: Mapping[str, Any] | None = None


class RunFolder:
    """The only owner of the files of a run folder.

    `recipe.json` is the run as it was resolved, `environment.json` says where it ran,
    `manifest.parquet` holds the videos, `nodes/<name>.json` what became of each node,
    `scores/<name>/` is a score folder for each training and fusion, `results.csv` and
    `results.json` have a row for each of them, `failed.parquet` lists the videos that failed.

    Args:
        path:
            The folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest_file = path / "manifest.parquet"
        self.failures_file = path / "failed.parquet"
        self.results_file = path / "results.csv"
        self._nodes = path / "nodes"

    def scores(self, name: str) -> ScoreFolder:
        """The score folder of a training or fusion."""
        return ScoreFolder(self.path / SCORES / name)

    def write_recipe(self, recipe: Mapping[str, Any]) -> None:
        """Keep the run as it was resolved, and what it ran on."""
        write_text(self.path / "recipe.json", _json(recipe))
        write_text(self.path / ENVIRONMENT, _json(environment()))

    def done(self, node: str) -> Done | None:
        """What became of a node; None where it has not ended, or the file cannot be read."""
        try:
            values = read_json(self._nodes / f"{node}.json")
            failures = tuple(Failure(**failure) for failure in values["failures"])
            lines = tuple(str(line) for line in values["lines"])
            return Done(values["key"], lines, failures, _checked_facts(values["facts"]))
        except (OSError, ValueError, TypeError, KeyError, StoreError):
            return None  # the node runs again

    def forget(self, nodes: Iterable[str]) -> None:
        """Delete what is noted of nodes: one of them begins to write, or what it needs does."""
        for node in nodes:
            (self._nodes / f"{node}.json").unlink(missing_ok=True)

    def write_done(self, node: str, done: Done) -> None:
        """Note that a node has ended; this is the last that it writes."""
        write_text(self._nodes / f"{node}.json", _json(asdict(done)))

    def write_traceback(self, node: str, error: BaseException) -> None:
        """Keep where an unexpected error of a node came from."""
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        write_text(self._nodes / f"{node}.txt", "".join(lines))

    def write_results(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the table of results: a row for each training and fusion that was scored."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
        write_text(self.results_file, text.getvalue())
        write_text(self.path / "results.json", _json({"rows": list(rows)}))

    def write_failures(self, failures: Iterable[Failure]) -> list[Failure]:
        """Write the videos that failed, each once for a stage, and return them."""
        unique = list({(f.video_id, f.stage, f.message): f for f in failures}.values())
        write_failures(self.failures_file, unique)
        return unique


def _checked_facts(facts: Any) -> dict[str, Any] | None:
    """Facts as a file has them; what is made of them is of its type, and no path leads elsewhere.

    Raises:
        TypeError: they are no object, or a table of numbers is none.
        StoreError: the model has no name that a model can have.
    """
    if facts is None:
        return None
    if not isinstance(facts, dict) or not all(
        isinstance(facts[name], dict) for name in ("row", "metrics", "summary") if name in facts
    ):
        raise TypeError("facts are no objects")
    warnings = facts.get("warnings", [])
    if not isinstance(warnings, list) or not all(isinstance(each, str) for each in warnings):
        raise TypeError("warnings are no texts")
    if "model" in facts:
        checked_name(facts["model"], "a model")
    return facts


def environment() -> dict[str, Any]:
    """Versions, hardware and the state of the project that this process runs in."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpus(),
        "git": _git_state(Path.cwd()),
    }


def _gpus() -> list[str]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [torch.cuda.get_device_name(number) for number in range(count)]


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the folder that the run was started in, and whether files differ from it.

    The folder's own configuration and hooks may be programs that `git status` runs: none is. Where
    that is not certain, whether files differ is None.
    """
    commit = _git(folder, ["rev-parse", "HEAD"])
    if commit is None:
        return None
    return {"commit": commit.strip(), "changed": _git_changed(folder)}


def _git_changed(folder: Path) -> bool | None:
    # A partial clone fetches what it lacks, by a program that its configuration may name.
    risky = r"^(filter\.|extensions\.partialclone$|remote\..*\.promisor$)"
    named = _git(folder, ["config", "-z", "--name-only", "--get-regexp", risky], none_found=1)
    if named is None:
        return None
    names = [name for name in named.split("\0") if name]
    if not all(name.startswith("filter.") for name in names):
        return None
    off = {"core.fsmonitor": "false", "submodule.recurse": "false", "core.hooksPath": os.devnull}
    off |= {name: "false" if name.endswith(".required") else "" for name in names}
    words = ["--no-optional-locks", "status", "-s", "--ignore-submodules=all"]
    changed = _git(folder, words, off)
    return None if changed is None else bool(changed.strip())


def _git(
    folder: Path,
    words: Sequence[str],
    settings: Mapping[str, str] | None = None,
    none_found: int = 0,
) -> str | None:
    """What git prints; None if it cannot be run, or ends with a code that is not 0 or `none_found`.

    Settings go through the environment: `-c` would split a name that contains "=".
    """
    given = os.environ.get("GIT_CONFIG_COUNT", "")
    first = int(given) if given.isdecimal() else 0
    environment = {**os.environ, "GIT_CONFIG_COUNT": str(first + len(settings or {}))}
    for number, (name, value) in enumerate((settings or {}).items(), first):
        environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, timeout=10, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return os.fsdecode(done.stdout) if done.returncode in (0, none_found) else None


def _cell(value: Any) -> Any:
    """A value in a cell of a table; settings are JSON."""
    return json.dumps(value, default=str) if isinstance(value, Mapping | list | tuple) else value


def _json(values: Any) -> str:
    return json.dumps(values, indent=1, default=str)
