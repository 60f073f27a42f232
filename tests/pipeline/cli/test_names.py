"""What a shell completes."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.shell_completion import ShellComplete
from click.types import StringParamType

from tests.commands import commands
from tests.page_folders import ScoreFolder, spiky
from vadpipe.data_manifests import DRAWN, write_manifest
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.extractors.footage.errors import DecoderHang
from vadpipe.pipeline.cli.main import COMMANDS, cli
from vadpipe.pipeline.engine import quarantine
from vadpipe.pipeline.registry import DATASETS, DETECTORS, EXTRACTORS, cards_in_use


def completed(*line: str) -> list[str]:
    """What is offered for the last word of a line."""
    shell = ShellComplete(cli, {}, "vadpipe", "_VADPIPE_COMPLETE")
    return [item.value for item in shell.get_completions([*line[:-1]], line[-1])]


def test_commands() -> None:
    assert completed("") == sorted(COMMANDS)
    assert completed("sc") == ["score"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (("train",), DETECTORS),
        (("list", "detectors"), DETECTORS),
        (("list", "extractors"), EXTRACTORS),
        (("extract", "some.parquet", "-e"), EXTRACTORS),
        (("manifest",), DATASETS),
        (("list", "datasets"), DATASETS),
        (("weights", "fetch"), cards_in_use()),
        (("weights", "verify"), cards_in_use()),
        (("choose", "rank"), DETECTORS),
        (("draw",), DRAWN),
        (("extract", "some.parquet", "--weights"), cards_in_use()),
        (("drift", "m", ".", "--split"), ["train", "test", "validation", "all"]),
    ],
    ids=" ".join,
)
def test_names_of_the_registries(line: tuple[str, ...], names: object) -> None:
    known = sorted(names)  # type: ignore[call-overload]
    assert completed(*line, "") == known
    begin = known[-1][:4]
    assert completed(*line, begin) == [name for name in known if name.startswith(begin)] != []


def before(line: tuple[str, ...], at: tuple[str, ...]) -> tuple[str, ...]:
    """The line with an option in front of its last word if that is an option, else after it."""
    return (*line[:-1], *at, line[-1]) if line[-1].startswith("--") else (*line, *at)


def test_names_of_the_cache_that_the_line_names(tmp_path: Path) -> None:
    (tmp_path / "features" / "frames-1").mkdir(parents=True)
    (tmp_path / "features" / "flow-2").mkdir()
    (tmp_path / "models" / "knn-3").mkdir(parents=True)
    (tmp_path / "models" / "knn-3" / "config.json").write_text("damaged")
    (tmp_path / "models" / "half").mkdir()
    at = ("--cache", str(tmp_path))
    for line in (
        ("cache", "rm"),
        ("cache", "verify"),
        ("cache", "compare"),
        ("choose", "rank", "--features"),
        ("choose", "rank", "--copy-features"),
        ("labels", "check", "--features"),
        ("extract", "--from"),
    ):
        assert completed(*before(line, at), "") == ["flow-2", "frames-1"], line
    assert completed("cache", "verify", *at, "fr") == ["frames-1"]
    for line in (
        ("threshold",),
        ("list", "models"),
        ("drift",),
        ("review", "--model"),
        ("feedback", "--model"),
        ("train", "--init"),
    ):
        assert completed(*before(line, at), "") == ["knn-3"], line


def test_names_of_a_score_folder(tmp_path: Path) -> None:
    folder = ScoreFolder(tmp_path)
    folder.add("cam1", spiky(8, 3), maps=["near"])
    folder.add("yard 2", spiky(8, 3))
    for part in (folder.path / "scores").iterdir():
        rows = pq.read_table(part)
        pq.write_table(rows.append_column("raw", rows["score"]), part)
    out = str(folder.path)
    assert completed("render", out, "") == ["cam1", "yard 2"]
    assert completed("render", out, "ya") == ["yard 2"]
    for line in (
        ("render", out, "cam1", "--column"),
        ("report", out, "--column"),
        ("export", out, "--column"),
        ("compare", out, "--column"),
    ):
        assert completed(*line, "") == ["raw", "score"], line
    assert completed("render", out, "cam1", "--map", "") == ["near"]
    assert completed("evaluate", out, "m.csv", "--column", "r") == ["raw"]
    assert completed("render", str(tmp_path / "none"), "") == []
    assert completed("render", "--column", "") == [], "the line names no folder yet"


def test_names_of_a_manifest_and_of_the_quarantine(tmp_path: Path) -> None:
    records = [VideoRecord(video_id=name, path=f"{name}.mp4", split="test") for name in ("b", "a")]
    listed = tmp_path / "m.csv"
    write_manifest(Manifest(dataset="mine", root=".", records=tuple(records)), listed)
    assert completed("show", "--manifest", str(listed), "frames", "") == ["a", "b"]
    assert completed("show", "frames", "") == []
    quarantine.add(tmp_path, "s1-a", "/archive/a.mp4", DecoderHang(""))
    line = ("cache", "quarantine", "--cache", str(tmp_path), "--release")
    assert completed(*line, "") == ["/archive/a.mp4", "all"]


# Options of words that name nothing which vadpipe knows, or cannot be completed; and why.
NO_NAMES = {
    "device": "listing devices would load torch at each key",
    "scheduler": "an address",
    "limits": "KEY=VALUE, a number",
    "settings": "KEY=VALUE; the keys depend on what else the line says",
    "choose rank pairs": "KEY=VALUES, as for settings",
    "smooth": "a kind and a width",
    "export media": "an address",
    "import name": "a new name",
    "import origin": "a text",
    "import grid": "a size",
    "import frame_size": "a size",
    "manifest exclude": "a pattern",
    "scene_from": "a pattern",
    "run only": "nodes are known when the run is resolved, which opens the footage",
    "train features": "ROLE=STORE is several words to bash",
    "fuse weights": "NAME=W is several words to bash",
    "fuse columns": "NAME=COLUMN is several words to bash",
    "score weights": "a file",
    "weights fetch sha256": "a hash",
}


def test_every_word_that_names_something_is_completed() -> None:
    found = {
        (name, param.name)
        for name, command in commands()
        for param in command.params
        if isinstance(param.type, StringParamType)
        and not getattr(param, "is_flag", False)
        and param._custom_shell_complete is None
    }
    excused = {(name, what) for name, what in found if {what, f"{name} {what}"} & NO_NAMES.keys()}
    assert found - excused == set()
    used = {what for _, what in excused} | {f"{name} {what}" for name, what in excused}
    assert NO_NAMES.keys() <= used, "an exception that nothing needs"


def test_a_cache_that_cannot_be_read_completes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert completed("cache", "rm", "--cache", str(tmp_path / "file"), "") == []
    assert completed("cache", "rm", "--cache", str(tmp_path / "none"), "") == []
