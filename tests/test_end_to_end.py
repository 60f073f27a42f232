"""The whole command line on drawn footage: every step, twice, and with things going wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.footage import marking
from tests.synthetic import write_tiny_scene
from vadpipe.data_manifests import read_manifest, write_manifest
from vadpipe.data_manifests.synthetic import write_scene
from vadpipe.detectors.base import DetectorError
from vadpipe.extractors.errors import ExtractorError
from vadpipe.extractors.weights.kept import weights_dir
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.engine import journal as journal_module
from vadpipe.pipeline.engine import span_task
from vadpipe.pipeline.models import ModelFolder, specs_of_model
from vadpipe.pipeline.run.key_value import ConfigError
from vadpipe.pipeline.scores.events import Calibration
from vadpipe.pipeline.store.errors import StoreError

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run vadpipe in an empty folder with a cache of its own; gives stdout."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "weights").symlink_to(weights_dir())
    monkeypatch.setenv("VADPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_tiny_scene(tmp_path / "scene")

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.stdout

    return call


def test_from_footage_to_page(run: Run, tmp_path: Path) -> None:
    assert "4 records" in run("manifest", "synthetic", "scene", "-o", "m.parquet")
    probed = json.loads(run("probe", "m.parquet", "--json"))
    assert len(probed["videos"]) == 4 and not probed["failures"]
    assert "4 shards" in run("extract", "m.parquet", "-e", "null", "--dry-run")
    assert not list((tmp_path / "cache").rglob("*.h5"))
    assert "4 shards written" in run("extract", "m.parquet", "-e", "null")
    assert "nothing to do" in run("extract", "m.parquet", "-e", "null")
    model = run("train", "knn", "m.parquet").strip()
    assert (Path(model) / "weights.safetensors").is_file()
    out = run("score", model, "m.parquet", "-o", "out")
    assert "2 videos scored (2 new)" in out and "micro AUC" in out
    assert "2 videos scored (0 new)" in run("score", model, "m.parquet", "-o", "out")
    table = pq.read_table("out/scores.parquet")
    assert set(table["video_id"].to_pylist()) == set(
        r.video_id for r in read_manifest(Path("m.parquet")).records if r.split == "test"
    )
    page = Path("out/report.html").read_text()
    for record in read_manifest(Path("m.parquet")).select(split="test").records:
        assert record.video_id in page
    metrics = json.loads(run("evaluate", "out", "m.parquet", "--json"))
    assert metrics["n_videos"] == 2 and 0 <= metrics["micro_auc"] <= 1
    assert metrics == json.loads(Path("out/metrics.json").read_text())
    assert run("report", "out", "m.parquet", "-o", "page").strip() == "page/report.html"
    assert "4 videos\t4 shards" in run("cache", "ls")
    assert "whole" in run("cache", "verify")
    next((tmp_path / "cache").rglob("*.h5")).write_bytes(b"broken")
    assert "broken" in run("cache", "verify", code=1)


def test_score_takes_a_file_it_has_never_seen(run: Run, tmp_path: Path) -> None:
    run("manifest", "synthetic", "scene", "-o", "m.parquet")
    run("extract", "m.parquet", "-e", "null", "--set", "stride=8")
    run("train", "knn", "m.parquet")
    strange = tmp_path / "<script>alert(1)<script>.mp4"
    strange.write_bytes(next((tmp_path / "scene" / "test").glob("*.mp4")).read_bytes())
    text = run("score", "knn", str(strange), "-o", "out")
    assert "1 video scored (1 new)" in text
    assert "<script>alert" not in Path("out/report.html").read_text()
    scores = pq.read_table("out/scores.parquet")
    assert scores["frame_start"].to_pylist() == [0, 8, 16, 24]
    assert Path("out/events.parquet").is_file() and Path("out/run.json").is_file()


def test_a_bad_video_is_listed_and_ends_with_code_3(run: Run, tmp_path: Path) -> None:
    run("manifest", "synthetic", "scene", "-o", "m.parquet")
    run("extract", "m.parquet", "-e", "null")
    run("train", "knn", "m.parquet")
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(next((tmp_path / "scene").rglob("*.mp4")).read_bytes())
    (folder / "bad.mp4").write_bytes(b"not a video at all")
    run("score", "knn", str(folder), "-o", "out", code=3)
    (failure,) = pq.read_table("out/failures.parquet").to_pylist()
    assert (failure["video_id"], failure["stage"]) == ("bad.mp4", "probe")
    assert pq.read_table("out/videos.parquet")["video_id"].to_pylist() == ["good.mp4"]
    assert "bad.mp4" in Path("out/report.html").read_text()
    run("manifest", "footage", str(folder), "-o", "f.parquet")
    run("probe", "f.parquet", code=3)
    run("extract", "f.parquet", "-e", "null", code=3)


def test_train_on_the_first_part_of_a_recording_and_score_the_rest(run: Run) -> None:
    run("manifest", "footage", "scene/train", "--train-fraction", "0.6", "-o", "f.csv")
    run("extract", "f.csv", "-e", "null", "--set", "clip_length=4", "--set", "stride=4")
    run("train", "knn", "f.csv")
    run("score", "knn", "f.csv", "-o", "out")
    videos = pq.read_table("out/videos.parquet").to_pylist()
    assert [(v["frame_start"], v["frame_stop"]) for v in videos] == [(24, 40), (24, 40)]
    scores = pq.read_table("out/scores.parquet")
    assert set(scores["frame_start"].to_pylist()) == {24, 28, 32, 36}


def test_run_file_does_everything_and_a_second_run_nothing(run: Run, tmp_path: Path) -> None:
    text = """
    out = "result"
    cache = "cache"
    [manifest]
    dataset = "synthetic"
    root = "scene"
    [[extract]]
    extractor = "null"
    [train]
    detector = "knn"
    """
    Path("run.toml").write_text(text)
    dry = run("run", "run.toml", "--dry-run")
    names = [line.partition("\t")[0] for line in dry.splitlines()[1:]]
    assert names == ["extract-null", "train-knn", "score-knn", "evaluate-knn", "report-knn"]
    assert "\tdone\t" not in dry and not (tmp_path / "result").exists()
    assert "shards written" in run("run", "run.toml")
    assert (tmp_path / "result/scores/knn/report.html").is_file()
    assert "0 ran, 5 done before" in run("run", "run.toml")
    assert run("run", "run.toml", "--dry-run").count("\tdone\t") == 5
    other = run("run", "run.toml", "--set", "score.events.quantile=0.98")
    assert "3 ran, 2 done before" in other
    table = json.loads(run("run", "run.toml", "--only", "evaluate-knn", "--json"))
    assert table["results"][0]["name"] == "knn"
    with pytest.raises(ConfigError, match="there is no node 'nothing'"):
        run("run", "run.toml", "--only", "nothing")


def test_models_refuse_other_features_and_name_the_field(run: Run, tmp_path: Path) -> None:
    run("manifest", "synthetic", "scene", "-o", "m.parquet")
    run("extract", "m.parquet", "-e", "null")
    model = Path(run("train", "knn", "m.parquet").strip())
    _, card = ModelFolder(model).load()
    card["features"]["snippet"]["version"] = 0
    with pytest.raises(ExtractorError, match="version: 1 != 0"):
        specs_of_model(card)


def test_ambiguous_features_are_listed(run: Run) -> None:
    run("manifest", "synthetic", "scene", "-o", "m.parquet")
    with pytest.raises(StoreError, match="run vadpipe extract first"):
        run("train", "knn", "m.parquet")
    run("extract", "m.parquet", "-e", "null")
    run("extract", "m.parquet", "-e", "null", "--set", "stride=8")
    with pytest.raises(StoreError, match="several feature sets") as error:
        run("train", "knn", "m.parquet")
    name = str(error.value).split()[6]
    assert name.startswith("null-")
    run("train", "knn", "m.parquet", "--features", f"snippet={name}")


def test_training_refuses_what_it_may_not_see(run: Run, tmp_path: Path) -> None:
    run("manifest", "footage", "scene/test", "-o", "f.parquet")
    with pytest.raises(DetectorError, match="--train-fraction"):
        run("train", "knn", "f.parquet")
    manifest = tmp_path / "m.csv"
    run("manifest", "synthetic", "scene", "-o", str(manifest))
    lines = manifest.read_text().splitlines()
    header = next(line for line in lines if "video_id" in line).split(",")
    rows = [line.split(",") for line in lines]
    for row in rows:
        if row[0] in {r.video_id for r in read_manifest(manifest).select(split="train").records}:
            row[header.index("label")] = "1"
            row[header.index("anomalies")] = ""
    manifest.write_text("\n".join(",".join(row) for row in rows) + "\n")
    with pytest.raises(DetectorError, match="2 training videos are labelled abnormal"):
        run("train", "knn", str(manifest))


def test_the_threshold_gives_about_the_stated_alarm_rate(run: Run, tmp_path: Path) -> None:
    """Twelve normal clips: the leave-one-out quantile holds on clips that were never seen."""
    write_scene(tmp_path / "many", size=(64, 96), n_train=12, n_test=1, frames=80, seed=5)
    run("manifest", "footage", "many/train", "--split", "train", "-o", "n.parquet")
    run("extract", "n.parquet", "-e", "null", "--set", "clip_length=4", "--set", "stride=4")
    listed = read_manifest(Path("n.parquet"))
    halves = {"a": listed.records[:6], "b": listed.records[6:]}
    for half, records in halves.items():
        write_manifest(listed.model_copy(update={"records": records}), Path(f"{half}.parquet"))
    rates: dict[float, list[float]] = {0.8: [], 0.9: []}
    for ours, theirs in ("ab", "ba"):  # both ways: clips differ more than frames do
        model = run("train", "knn", f"{ours}.parquet").strip()
        run("score", model, f"{theirs}.parquet", "--split", "train", "-o", theirs)
        calibration = Calibration.from_json(ModelFolder(Path(model)).load()[1]["calibration"])
        scores = np.asarray(pq.read_table(f"{theirs}/scores.parquet")["score"])
        for quantile, found in rates.items():
            found.append(float(np.mean(scores > calibration.threshold(quantile).value)))
    for quantile, found in rates.items():
        assert abs(np.mean(found) - (1 - quantile)) < 0.1, (quantile, found)


# --------------------------------------------------------------------------------------- archives


def stderr_of(*arguments: str, code: int) -> str:
    """What a command says of failures."""
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stderr


def damage(monkeypatch: pytest.MonkeyPatch, *bad: int) -> None:
    """From here on, these frames of every video are marked as damaged."""
    monkeypatch.setattr(span_task, "guarded_frames", marking(bad))


def test_probe_lists_faults_and_totals(run: Run, tmp_path: Path) -> None:
    (tmp_path / "scene" / "train" / "broken.mp4").write_bytes(b"no video")
    run("manifest", "footage", "scene/train", "-o", "m.parquet")
    lines = run("probe", "m.parquet", code=3).splitlines()
    assert lines[0].split() == ["video", "frames", "size", "fps", "codec", "what", "is", "wrong"]
    (bad,) = (line for line in lines if "NotAVideo" in line)
    assert bad.split()[0] == "broken.mp4"
    assert lines[-1].startswith("3 videos: ") and " 1 refused; " in lines[-1]
    assert lines[-1].endswith(" hours, 80 frames")
    (failure,) = pq.read_table("cache/failures/m-probe.parquet").to_pylist()
    assert (failure["video_id"], failure["stage"]) == ("broken.mp4", "probe")
    listed = run("probe", "m.parquet", "--all", code=3).splitlines()
    assert len([line for line in listed if " 96x64 " in line]) == 2
    values = json.loads(run("probe", "m.parquet", "--json", code=3))
    assert len(values["videos"]) == 2 and len(values["failures"]) == 1


def test_a_limit_fails_each_video_by_its_name(run: Run) -> None:
    run("manifest", "synthetic", "scene", "-o", "m.parquet")
    for command in (["probe", "m.parquet"], ["extract", "m.parquet", "-e", "null"]):
        said = stderr_of(*command, "--limit", "pixels=10", code=3)
        assert "4 failed" in said and said.replace("\n", " ").count("--limit pixels=N") == 4
    rows = pq.read_table("cache/failures/m-extract.parquet").to_pylist()
    assert [row["error"] for row in rows] == ["OverLimit"] * 4
    assert not list(Path("cache").rglob("*.h5"))
    with pytest.raises(ValueError, match="pixel"):
        run("extract", "m.parquet", "-e", "null", "--limit", "pixel=10")
    assert "4 shards" in run(
        "extract", "m.parquet", "-e", "null", "--limit", "pixels=6144", "--limit", "hours=1"
    )


def test_what_becomes_of_damaged_frames(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("manifest", "synthetic", "scene", "-o", "m.parquet")
    extract = ["extract", "m.parquet", "-e", "null", "--set", "clip_length=8", "--set", "stride=8"]
    damage(monkeypatch, 3, 5)
    said = stderr_of(*extract, "--on-corrupt", "fail", code=3)
    assert "CorruptFrames" in said and "--on-corrupt skip" in said.replace("\n", " ")
    for policy, rows in (("keep", 5), ("skip", 4)):
        text = run(*extract, "--on-corrupt", policy)
        assert "4 shards written: 4 videos are complete" in text
        assert "damaged frames: 8 in 4 videos (" in text and "test_01 2" in text
        assert "nothing to do" in run(*extract, "--on-corrupt", policy)
        store = text.splitlines()[0]
        table = pq.read_table(f"{store}/index")
        assert table["rows"].to_pylist() == [rows] * 4
    recipes = [json.loads(p.read_text()) for p in Path("cache/features").glob("*/spec.json")]
    assert sorted(r.get("on_corrupt", "") for r in recipes) == ["", "skip"]
    with pytest.raises(StoreError, match="several feature sets"):
        run("train", "knn", "m.parquet")
    skipped = Path(store).name
    model = run("train", "knn", "m.parquet", "--features", f"snippet={skipped}").strip()
    run("score", model, "m.parquet", "-o", "out")
    scores = pq.read_table("out/scores.parquet")
    assert scores["frame_start"].to_pylist() == [8, 16, 24, 32] * 2


def test_status_of_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("status").strip() == "no runs in " + str(Path("cache").absolute())
    assert json.loads(run("status", "--json")) == {"runs": []}
    run("manifest", "synthetic", "scene", "-o", "m.parquet")
    run("extract", "m.parquet", "-e", "null")
    (state,) = json.loads(run("status", "--json"))["runs"]
    assert (state["state"], state["lost"], state["seconds_left"]) == ("done", False, None)
    assert (state["videos_done"], state["frames_done"], state["shards"]) == (4, 160, 4)
    text = run("status")
    assert "  done  " in text and "4 of 4 videos, 4 of 4 spans, 4 shards written, 0 videos" in text
    damage(monkeypatch, 3)
    run("extract", "m.parquet", "-e", "null", "--set", "stride=4", "--on-corrupt", "fail", code=3)
    lines = run("status").splitlines()
    assert sum("4 videos failed" in line for line in lines) == 1
    assert sum("CorruptFrames" in line for line in lines) == 4
    assert len(json.loads(run("status", "--json"))["runs"]) == 2
    assert len(json.loads(run("status", "--json", "--last", "1"))["runs"]) == 1
    run("extract", "m.parquet", "-e", "null")
    assert len(json.loads(run("status", "--json"))["runs"]) == 2, "nothing to do is no run"


def test_status_is_watched_until_no_run_is_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    slept: list[float] = []
    cache = Path("cache").absolute()
    totals = {"videos": 1, "spans": 1, "frames": 100}
    with journal_module.journal(cache, "vadpipe extract m.parquet", totals) as kept:

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 2:
                kept.update(now=True, state="done")

        monkeypatch.setattr(time, "sleep", sleep)
        text = run("status", "--watch")
    assert slept == [2, 2]
    states = [line.split("  ")[1] for line in text.splitlines() if "m.parquet" in line]
    assert states == ["running", "running", "done"]
    assert run("status", "--watch").count("m.parquet") == 1


def test_feature_sets_are_verified_by_name(run: Run) -> None:
    run("manifest", "synthetic", "scene", "-o", "m.parquet")
    names = [
        Path(run("extract", "m.parquet", "-e", "null", "--set", f"stride={n}").split()[0]).name
        for n in (4, 8)
    ]
    broken = next((Path("cache/features") / names[0]).rglob("*.h5"))
    broken.write_bytes(b"broken")
    assert "all shards are whole" in run("cache", "verify", names[1])
    for chosen in ([names[0]], names, []):
        (problem,) = run("cache", "verify", *chosen, code=1).splitlines()
        assert problem.startswith(f"{names[0]}: broken: ") and broken.name in problem
    with pytest.raises(StoreError, match="no feature set 'null'; see vadpipe cache ls"):
        run("cache", "verify", "null")
    assert run("cache", "rebuild", names[0]).strip() == f"{names[0]}\t3 shards"
    assert "1 shard written: 4 videos" in run(
        "extract", "m.parquet", "-e", "null", "--set", "stride=4"
    )
    assert "all shards are whole" in run("cache", "verify")


def test_scoring_an_archive_leaves_no_features_behind(run: Run, tmp_path: Path) -> None:
    run("manifest", "synthetic", "scene", "-o", "m.parquet")
    run("extract", "m.parquet", "-e", "null")
    model = run("train", "knn", "m.parquet").strip()
    run("score", model, "scene/test", "-o", "kept")
    shutil.rmtree("cache/features")
    score = ["score", model, "scene/test", "-o", "out", "--discard-features"]
    assert "2 videos scored (2 new)" in run(*score)
    assert not list(tmp_path.rglob("*.h5"))
    for name in ("scores", "events", "videos"):
        assert pq.read_table(f"out/{name}.parquet") == pq.read_table(f"kept/{name}.parquet")
    assert "test_01.mp4" in Path("out/report.html").read_text()
    (tmp_path / "scene/test/new.mp4").write_bytes(
        next((tmp_path / "scene" / "train").glob("*.mp4")).read_bytes()
    )
    assert "3 videos scored (1 new)" in run(*score)
    assert "3 videos scored (0 new)" in run(*score)
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["-e", "nothing"], "no extractor 'nothing'; there are: .*null"),
        (["-e", "patch_cubes:nothing", "--weights", "random:0"], "no preset 'nothing'"),
        (["-e", "null", "--weights", "random:0"], "takes no weights"),
        (["-e", "null", "--set", "strid=3"], "strid"),
    ],
)
def test_wrong_settings_say_what_is_right(run: Run, arguments: list[str], match: str) -> None:
    run("manifest", "synthetic", "scene", "-o", "m.parquet")
    with pytest.raises(ValueError, match=match):
        run("extract", "m.parquet", *arguments)


def test_every_command_has_help_and_is_in_the_readme() -> None:
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text()
    for name, command in cli.commands.items():
        assert command.help, name
        assert f"vadpipe {name}" in readme, name


@pytest.mark.weights
def test_real_network_end_to_end(run: Run, real_weights: str) -> None:
    """Real I3D features of drawn footage: anomalous frames score above normal ones."""
    run("manifest", "synthetic", "scene", "-o", "m.parquet")
    settings = ["--set", "frame_size=[64, 96]", "--set", "patch_sizes=[[32, 32]]"]
    run("extract", "m.parquet", "-e", "patch_cubes", "--weights", real_weights, *settings)
    model = run("train", "knn", "m.parquet", "--set", "role=patch").strip()
    assert "2 videos scored" in run("score", model, "m.parquet", "-o", "out")
    assert json.loads(Path("out/metrics.json").read_text())["micro_auc"] > 0.5
