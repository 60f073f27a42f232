"""The entry point starts without the libraries that only commands need."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from vadpipe.data_manifests import Manifest, VideoRecord, write_manifest
from vadpipe.pipeline.cli.main import _Plain, main

# What may be imported before a command runs: the commands, names of rooms, the base error.
LIGHT = (
    "vadpipe.pipeline.cli",
    "vadpipe.pipeline.registry",
    "vadpipe.data_manifests.errors",
    "vadpipe.data_manifests.plain_text",
    "vadpipe.pipeline.store.most_missing",
)
ROOMS = {
    "vadpipe.data_manifests",
    "vadpipe.extractors",
    "vadpipe.detectors",
    "vadpipe.pipeline",
    "vadpipe.pipeline.store",
}
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


NASTY = "no\x1b[31m\u202e[/bold][red]\udcff"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory; `main` changes nothing else of this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("vadpipe.pipeline.cli.main.end_soon", lambda: None)
    monkeypatch.setattr("vadpipe.pipeline.cli.main._print_warnings", lambda: None)
    (tmp_path / "f").mkdir()
    records = tuple(
        VideoRecord(video_id=name, path=None, split="all", expected_frames=48) for name in "ab"
    )
    write_manifest(Manifest(dataset="x", root="/", records=records), tmp_path / "m.csv")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["probe", f"{NASTY}.mp4"],
        ["status", "--cache", f"{NASTY}/x[/bold]"],
        ["extract", "m.csv", "-e", NASTY],
        ["import", "m.csv", "f", "--name", NASTY],
        ["import", "m.csv", "f", "--name", "x", "--grid", NASTY],
        ["extract", "m.csv", "-e", "null", "--limit", f"{NASTY}=1"],
        [NASTY],
    ],
    ids=["file", "cache", "extractor", "name", "grid", "limit", "command"],
)
def test_no_argument_reaches_the_terminal_as_it_is(
    arguments: list[str],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["vadpipe", *arguments])
    with pytest.raises(SystemExit):
        main()
    said = "".join(capsys.readouterr())
    assert said and not any(character in said for character in "\x1b\u202e\udcff\r")


def test_names_of_files_end_no_line(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.npy", "x\nError: gone [red].npy"):
        (here / "f" / name).write_bytes(b"none")
    monkeypatch.setattr(sys, "argv", ["vadpipe", "import", "m.csv", "f", "--name", "x"])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().err.splitlines()
    assert any("a.npy" in line for line in lines)
    assert not any(line.startswith("Error: gone") for line in lines)


def test_warnings_are_shown_plain() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 1, "%s left out", ("a\x1b[2J",), None)
    assert _Plain().format(record) == "a\\x1b[2J left out"


def test_warnings_are_printed_and_a_terminal_obeys_nothing_in_them() -> None:
    script = (
        "import logging, warnings\n"
        "from vadpipe.pipeline.cli.main import _print_warnings\n"
        "_print_warnings()\n"
        "warnings.warn('these are not \\x1b[31m trained weights')\n"
        "logging.getLogger('vadpipe').warning('left \\x1b[31m out')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300
    )
    assert "trained weights" in done.stderr and "left" in done.stderr
    assert "\x1b" not in done.stderr and not done.stdout
