"""The entry point starts without the libraries that only commands need."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What may be imported before a command runs: the commands, names of rooms, the base error.
LIGHT = (
    "vadpipe.pipeline.cli",
    "vadpipe.pipeline.registry",
    "vadpipe.data_manifests.errors",
    "vadpipe.data_manifests.plain_text",
)
ROOMS = {"vadpipe.data_manifests", "vadpipe.extractors", "vadpipe.detectors", "vadpipe.pipeline"}
HEAVY = {
    "PIL",
    "av",
    "dask",
    "distributed",
    "h5py",
    "jinja2",
    "matplotlib",
    "numpy",
    "pooch",
    "psutil",
    "pyarrow",
    "pydantic",
    "rich",
    "scipy",
    "sklearn",
    "torch",
    "torchvision",
}
SCRIPT = """
import importlib.metadata, sys
def entry_points(**group):
    raise AssertionError("entry points are read")
if sys.argv[-1] in ("--help", "-h", "--version"):
    importlib.metadata.entry_points = entry_points
from vadpipe.pipeline.cli.main import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print(*sorted(sys.modules), file=sys.stderr)
"""


def imported_by(*arguments: str) -> set[str]:
    """The modules that a process of the command line has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["extract", "--help"],
        ["bench", "--help"],
        ["cache", "ls", "-h"],
        ["manifest", "-h"],
    ],
    ids=" ".join,
)
def test_help_and_version_import_no_library_and_read_no_entry_point(arguments: list[str]) -> None:
    modules = imported_by(*arguments)
    assert not {name.partition(".")[0] for name in modules} & HEAVY
    ours = {name for name in modules if name.startswith("vadpipe.")} - ROOMS
    assert not {name for name in ours if not name.startswith(LIGHT)}


def test_the_version_imports_no_command() -> None:
    assert "vadpipe.pipeline.cli.footage" not in imported_by("--version")


def test_the_check_above_sees_libraries(tmp_path: object) -> None:
    modules = imported_by("cache", "ls", "--cache", str(tmp_path))
    assert "pyarrow" in modules and "vadpipe.pipeline.store.feature_store" in modules
