"""`vadpipe manifest footage --scene-from`: scenes are listed, videos without one are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vadpipe.data_manifests.record import ManifestError
from vadpipe.data_manifests.table import read_manifest
from vadpipe.pipeline.cli.main import cli


def listed(tmp_path: Path, *words: str) -> Result:
    for path in ("gate/a.mp4", "gate/b.mp4", "yard/c.avi", "loose.mp4"):
        (tmp_path / "archive" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "archive" / path).touch()
    out = str(tmp_path / "m.csv")
    return CliRunner().invoke(cli, ["manifest", *words, "-o", out])


def test_scenes_are_listed_with_their_videos(tmp_path: Path) -> None:
    root = str(tmp_path / "archive")
    done = listed(tmp_path, "footage", root, "--scene-from", "folder")
    assert done.exit_code == 0, done.output
    assert "2 scenes: gate (2 videos), yard (1 video)" in done.stdout
    assert "no scene is named by 1 video: loose.mp4" in done.stdout
    scenes = {r.video_id: r.scene for r in read_manifest(tmp_path / "m.csv").records}
    assert scenes["gate__b.mp4"] == "gate" and scenes["loose.mp4"] is None


def test_several_folders_share_the_rule(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    words = ["footage", "--normal", str(root / "gate"), "--test", str(root / "yard")]
    done = listed(tmp_path, *words, "--scene-from", "([a-z])[.]")
    assert done.exit_code == 0, done.output
    assert "3 scenes: a (1 video), b (1 video), c (1 video)" in done.stdout


def test_without_the_option_nothing_is_said_of_scenes(tmp_path: Path) -> None:
    done = listed(tmp_path, "footage", str(tmp_path / "archive"))
    assert done.exit_code == 0 and "scene" not in done.output


def test_a_rule_that_matches_nothing_writes_nothing(tmp_path: Path) -> None:
    done = listed(tmp_path, "footage", str(tmp_path / "archive"), "--scene-from", "cam([0-9]+)")
    assert isinstance(done.exception, ManifestError) and not (tmp_path / "m.csv").exists()


@pytest.mark.parametrize("dataset", ["ucsd_ped2", "plaza"])
def test_other_data_sets_name_their_scenes_themselves(tmp_path: Path, dataset: str) -> None:
    done = listed(tmp_path, dataset, str(tmp_path), "--scene-from", "folder")
    assert done.exit_code == 2 and "--scene-from are for the data set footage" in " ".join(
        done.output.split()
    )
