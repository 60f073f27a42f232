"""Data sets by name: drawn ones, their options, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from vadpipe.data_manifests.record import ManifestError
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.run.manifests import build_manifest, draw_dataset

SMALL = {"size": [64, 96], "n_train": 1, "n_test": 1, "frames": 16}


def test_the_command_draws_what_the_manifest_lists(tmp_path: Path) -> None:
    root = str(tmp_path / "scene")
    settings = [f"--set={name}={value}" for name, value in SMALL.items()]
    done = CliRunner().invoke(cli, ["draw", "synthetic", root, "--seed", "3", *settings])
    assert done.exit_code == 0 and "2 videos of synthetic" in done.output
    listed = build_manifest("synthetic", tmp_path / "scene")
    assert [record.video_id for record in listed.records] == ["train_01", "test_01"]
    assert '"seed": 3' in (tmp_path / "scene" / "scene.json").read_text()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ucf_crime", {}, r"no data set 'ucf_crime' can be drawn; there are: plaza, synthetic"),
        ("plaza", {"n_tests": 3}, r"plaza has no option n_tests; it has: .*did you mean 'n_test'"),
        ("synthetic", {**SMALL, "frames": 8}, "16 frames or more"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    name: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError, match=message):
        draw_dataset(name, tmp_path / "scene", options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"frames": "many"}, {"size": 64}, {"seed": 1.5}])
def test_values_of_another_type_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        draw_dataset("plaza", tmp_path / "scene", options)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ManifestError, match="is not empty"):
        draw_dataset("synthetic", tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
