"""What a shell completes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from vadpipe.pipeline.cli.main import COMMANDS, cli
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
    ],
    ids=" ".join,
)
def test_names_of_the_registries(line: tuple[str, ...], names: object) -> None:
    known = sorted(names)  # type: ignore[call-overload]
    assert completed(*line, "") == known
    begin = known[-1][:4]
    assert completed(*line, begin) == [name for name in known if name.startswith(begin)] != []


def test_names_of_the_cache_that_the_line_names(tmp_path: Path) -> None:
    (tmp_path / "features" / "frames-1").mkdir(parents=True)
    (tmp_path / "features" / "flow-2").mkdir()
    (tmp_path / "models" / "knn-3").mkdir(parents=True)
    (tmp_path / "models" / "knn-3" / "config.json").write_text("damaged")
    (tmp_path / "models" / "half").mkdir()
    at = ("--cache", str(tmp_path))
    for line in (("cache", "rm"), ("cache", "verify"), ("cache", "compare")):
        assert completed(*line, *at, "") == ["flow-2", "frames-1"], line
    assert completed("cache", "verify", *at, "fr") == ["frames-1"]
    for line in (("threshold",), ("list", "models")):
        assert completed(*line, *at, "") == ["knn-3"], line


def test_a_cache_that_cannot_be_read_completes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert completed("cache", "rm", "--cache", str(tmp_path / "file"), "") == []
    assert completed("cache", "rm", "--cache", str(tmp_path / "none"), "") == []
