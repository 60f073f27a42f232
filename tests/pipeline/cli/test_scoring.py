"""`vadpipe score`: what it passes on, and folders that cannot be listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vadpipe.data_manifests.record import ManifestError
from vadpipe.pipeline import score as score_stage
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.report import stage as report_stage
from vadpipe.pipeline.score import Scored

Given = list[dict[str, Any]]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Given:
    """What `score_footage` is called with; it does nothing."""
    calls: Given = []

    def score_footage(model: Path, manifest: Any, probed: Any, out: Path, *_: Any, **options: Any):
        calls.append({"manifest": manifest, "out": out, **options})
        return Scored(out, videos=["a", "b"], kept=["b"], failures=list(probed.failures))

    monkeypatch.setattr(score_stage, "score_footage", score_footage)
    monkeypatch.setattr(ModelFolder, "find", lambda cache, name: ModelFolder(Path(name)))
    monkeypatch.setattr(report_stage, "write_report", lambda out, **_: out / "report.html")
    (tmp_path / "archive").mkdir()
    return calls


def score(tmp_path: Path, *options: str) -> Result:
    archive, out, cache = (str(tmp_path / name) for name in ("archive", "out", "cache"))
    words = ["score", "model", archive, "-o", out, "--cache", cache, *options]
    return CliRunner().invoke(cli, words)


def scored(tmp_path: Path) -> None:
    (tmp_path / "out" / "scores").mkdir(parents=True)
    (tmp_path / "out" / "scores" / "a.parquet").touch()


def test_a_root_that_is_empty_now_is_a_failure(tmp_path: Path, given: Given) -> None:
    done = score(tmp_path)
    assert isinstance(done.exception, ManifestError) and not given, "nothing was scored there"
    scored(tmp_path)
    done = score(tmp_path)
    assert done.exit_code == 3
    assert f"list: Unread: {tmp_path / 'archive'}: holds no footage" in " ".join(
        done.output.split()
    )
    assert not given[0]["manifest"].records and not given[0]["prune"]


def test_a_folder_that_cannot_be_read_is_a_failure(
    tmp_path: Path, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archive" / "locked").mkdir()
    plain = Path.iterdir

    def iterdir(self: Path) -> object:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return plain(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    scored(tmp_path)
    done = score(tmp_path)
    assert done.exit_code == 3 and "locked: cannot be read: Permission denied" in " ".join(
        done.output.split()
    )
    frames = tmp_path / "archive" / "yard"
    frames.mkdir()
    for name in ("0.png", "1.png"):
        (frames / name).touch()
    manifest = tmp_path / "m.csv"
    words = ["manifest", "footage", str(tmp_path / "archive"), "-o", str(manifest)]
    listed = CliRunner().invoke(cli, words)
    assert listed.exit_code == 3 and "locked: cannot be read" in listed.output
    assert "yard" in manifest.read_text("utf-8")


def test_smoothing_is_passed_on(tmp_path: Path, given: Given) -> None:
    scored(tmp_path)
    score(tmp_path, "--smooth", "median:9")
    score(tmp_path)
    assert [c["smooth"] and c["smooth"].text for c in given] == ["median:9", None]
    wrong = score(tmp_path, "--smooth", "mean:9")
    assert wrong.exit_code == 2 and "'mean:9' is no smoothing: write KIND:WIDTH" in wrong.output


def test_prune_is_passed_on(tmp_path: Path, given: Given) -> None:
    scored(tmp_path)
    done = score(tmp_path, "--prune")
    assert "2 videos scored (0 new)" in done.output
    assert "1 of them are not listed now; --prune deletes their results" in done.output
    score(tmp_path, "--prune", "--yes")
    assert [(c["prune"], c["prune_most"]) for c in given] == [(True, False), (True, True)]
    wrong = score(tmp_path, "--yes")
    assert wrong.exit_code == 2 and "--yes goes with --prune" in wrong.output
