"""Fusion: closed forms, what changes nothing, missing videos, folders that cannot be fused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.score_folders import rows, write_score_folder
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.detectors.base import Scores
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.evaluate import evaluate_scores
from vadpipe.pipeline.fuse import Fused, FuseError, fuse_scores
from vadpipe.pipeline.scores.events import Calibration
from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.scores.held_out import HeldOut
from vadpipe.pipeline.scores.part import whole_id_of
from vadpipe.pipeline.store.failures import Failure

NORMAL = {f"n{i}": rows(np.arange(20) + i / 10) for i in range(6)}  # held out by both
SCORES = {
    "v": rows([1.0, 5.0, 30.0, 40.0, 40.0, 2.0, 1.0, 1.0]),
    "w": rows([0.0, 1.0, 2.0, 3.0, 4.0, 50.0, 6.0, 7.0]),
}


def changed(scores: dict[str, Scores], change: Any) -> dict[str, Scores]:
    return {name: rows(change(each.columns["score"])) for name, each in scores.items()}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two systems on two videos; the second sees them backwards."""
    write_score_folder(tmp_path / "a", SCORES, NORMAL)
    backwards = changed(SCORES, lambda s: s[::-1])
    write_score_folder(tmp_path / "b", backwards, changed(NORMAL, lambda s: s[::-1]))
    return tmp_path / "a", tmp_path / "b"


def fused(done: Fused) -> dict[str, list[float]]:
    folder = ScoreFolder(done.out)
    return {video: folder.scores(video)["score"].to_pylist() for video in done.videos}


def test_weighted_mean_and_maximum_of_quantiles(tmp_path: Path) -> None:
    write_score_folder(tmp_path / "a", {"v": rows([1, 2, 9])}, {"n": rows([1, 2, 3])})
    write_score_folder(tmp_path / "b", {"v": rows([5, 7, 0])}, {"n": rows([5, 6, 7])})
    parts = [tmp_path / "a", tmp_path / "b"]
    a = [1 / 4, 2 / 4, 1 - 1 / 8 / (1 + 6)]  # 9 is 6 spreads (3 - 2) above the largest
    b = [1 / 4, 3 / 4, 1 / 8]
    done = fuse_scores(parts, tmp_path / "o", weights={"a": 3})
    part = ScoreFolder(tmp_path / "o").scores("v")
    np.testing.assert_allclose(part["quantile/a"], a, rtol=1e-14)
    np.testing.assert_allclose(part["quantile/b"], b, rtol=1e-14)
    mean = [(3 * x + y) / 4 for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(fused(done)["v"], mean, rtol=1e-14)
    done = fuse_scores(parts, tmp_path / "o", method="max")
    np.testing.assert_allclose(fused(done)["v"], np.maximum(a, b), rtol=1e-14)


def test_the_threshold_is_that_of_the_combined_held_out_rows(two: Any, tmp_path: Path) -> None:
    done = fuse_scores(two, tmp_path / "o")
    folder = ScoreFolder(done.out)
    held_out = folder.held_out()
    assert held_out is not None and held_out.videos == tuple(sorted(NORMAL))
    combined = held_out.values("score")
    # one system sees a held-out video forwards, the other backwards: ranks add up
    assert np.ptp(combined) < 0.06 and abs(combined.mean() - 0.5) < 1e-12
    stated = folder.run()["threshold"]
    assert stated["high"] == Calibration.from_scores([combined], method="").threshold(0.99).value
    assert stated["calibration"]["common_videos"] == sorted(NORMAL)
    assert stated["calibration"]["n_rows"] == 120
    assert done.warnings == () and done.events == len(folder.events()) > 0


def test_doubts_about_a_part_are_those_of_the_fusion(two: Any, tmp_path: Path) -> None:
    part = ScoreFolder(two[1])
    run = part.run()
    stated = {**run["threshold"], "calibration": {"warnings": ["a camera is new"]}}
    part.write_run({**run, "threshold": stated})
    done = fuse_scores(two, tmp_path / "o")
    assert done.warnings == ("b: a camera is new",)
    again = fuse_scores([tmp_path / "o", two[0]], tmp_path / "p")
    assert again.warnings == ("o: b: a camera is new",)


def test_order_and_scale_change_nothing(two: tuple[Path, Path], tmp_path: Path) -> None:
    first = fuse_scores(two, tmp_path / "o1")
    second = fuse_scores(two[::-1], tmp_path / "o2")
    assert fused(first) == fused(second)
    runs = [ScoreFolder(done.out).run() for done in (first, second)]
    assert [{**run, "created": ""} for run in runs] == [{**runs[0], "created": ""}] * 2
    shutil.rmtree(two[0])
    scale = lambda s: 8 * s - 4  # noqa: E731
    write_score_folder(two[0], changed(SCORES, scale), changed(NORMAL, scale))
    assert fused(fuse_scores(two, tmp_path / "o3")) == fused(first)


def test_a_bent_scale_changes_nothing_below_the_largest(two: Any, tmp_path: Path) -> None:
    before = fused(fuse_scores(two, tmp_path / "o1"))
    shutil.rmtree(two[0])
    bend = lambda s: np.where(s <= 20, np.exp(s / 10), np.exp(2) + s - 20)  # noqa: E731
    write_score_folder(two[0], changed(SCORES, bend), changed(NORMAL, bend))
    after = fused(fuse_scores(two, tmp_path / "o2"))
    for video, scores in SCORES.items():
        inside = scores.columns["score"] <= 20
        np.testing.assert_array_equal(
            np.array(after[video])[inside], np.array(before[video])[inside]
        )
        assert np.abs(np.array(after[video]) - before[video]).max() < 1 / 120


def labelled() -> Manifest:
    spans = {"v": ((16, 40),), "w": ((40, 48),)}
    records = [
        VideoRecord(video_id=v, path=f"{v}.mp4", split="test", label=1, anomalies=spans[v])
        for v in SCORES
    ]
    return Manifest(dataset="tiny", root="/none", records=tuple(records))


def test_one_part_alone_keeps_ranking_events_and_auc(two: Any, tmp_path: Path) -> None:
    done = fuse_scores(two[:1], tmp_path / "o")
    for video, scores in SCORES.items():
        pairs = np.argsort(scores.columns["score"], kind="stable")
        assert (np.diff(np.array(fused(done)[video])[pairs]) >= 0).all()
    frames = [
        (e["video_id"], e["frame_start"], e["frame_stop"]) for e in ScoreFolder(two[0]).events()
    ]
    ours = [
        (e["video_id"], e["frame_start"], e["frame_stop"]) for e in ScoreFolder(done.out).events()
    ]
    assert ours == frames and frames
    aucs = [
        evaluate_scores(f, labelled(), replicates=0).metrics.micro_auc for f in (two[0], done.out)
    ]
    assert aucs[0] == aucs[1] and aucs[0] is not None


def test_other_rates_are_brought_to_common_rows(tmp_path: Path) -> None:
    write_score_folder(tmp_path / "a", {"v": rows([1, 2, 3], step=8)}, {"n": rows([1, 2, 3])})
    write_score_folder(tmp_path / "b", {"v": rows([1, 3], step=12)}, {"n": rows([1, 3], step=12)})
    done = fuse_scores([tmp_path / "a", tmp_path / "b"], tmp_path / "o")
    part = ScoreFolder(done.out).scores("v")
    assert part["frame_start"].to_pylist() == [0, 8, 12, 16]
    assert part["frame_stop"].to_pylist() == [8, 12, 16, 24]
    a, b = [1 / 4, 2 / 4, 2 / 4, 3 / 4], [1 / 3, 1 / 3, 2 / 3, 2 / 3]
    np.testing.assert_allclose(part["score"], np.add(a, b) / 2)
    held_out = ScoreFolder(done.out).held_out()
    assert held_out is not None
    np.testing.assert_allclose(held_out.values("score"), np.add(a, b) / 2)


def test_a_fusion_is_evaluated_reported_and_fused_again(two: Any, tmp_path: Path) -> None:
    out, again = tmp_path / "o", tmp_path / "again"
    result = CliRunner().invoke(cli, ["fuse", *map(str, two), "-o", str(out), "--weight", "a=2"])
    assert result.exit_code == 0, result.output
    assert "2 videos fused" in result.output and (out / "report.html").is_file()
    assert evaluate_scores(out, labelled(), replicates=0).metrics.n_videos == 2
    parts = ScoreFolder(out).run()["fusion"]["parts"]
    assert {n: (p["weight"], p["column"]) for n, p in parts.items()} == {
        "a": (2.0, "score"),
        "b": (1.0, "score"),
    }
    assert parts["a"]["model"]["key"] == "a"
    done = fuse_scores([out, two[0]], again, columns={"o": "quantile/b"})
    assert len(done.videos) == 2 and not done.failures


def test_a_video_that_one_part_lacks_is_a_failure(two: Any, tmp_path: Path) -> None:
    failed = Failure("w", "score", "DecodeError", "broken file")
    shutil.rmtree(two[1])
    write_score_folder(two[1], {"v": SCORES["v"]}, NORMAL, failures=[failed])
    result = CliRunner().invoke(cli, ["fuse", *map(str, two), "-o", str(tmp_path / "o")])
    assert result.exit_code == 3, result.output
    (row,) = ScoreFolder(tmp_path / "o").failures()
    assert (row["video_id"], row["stage"], row["error"]) == ("w", "fuse", "FuseError")
    assert "has no scores of it (broken file)" in row["message"]
    assert list((tmp_path / "o" / "scores").iterdir()) == [tmp_path / "o" / "scores" / "v.parquet"]


def test_what_was_fused_earlier_stays(two: Any, tmp_path: Path) -> None:
    """A part has lost a video since: the tables still have it, and it is a failure."""
    before = fused(fuse_scores(two, tmp_path / "o"))
    tables = [pq.read_table(tmp_path / "o" / f"{n}.parquet") for n in ("scores", "events")]
    write_score_folder(
        two[1],
        {"v": rows(SCORES["v"].columns["score"][::-1])},
        changed(NORMAL, lambda s: s[::-1]),
    )
    done = fuse_scores(two, tmp_path / "o")
    assert done.kept == ["w"] and fused(done) == before
    assert [(f.video_id, f.stage) for f in done.failures] == [("w", "fuse")]
    assert [pq.read_table(tmp_path / "o" / f"{n}.parquet") for n in ("scores", "events")] == tables
    other = fuse_scores(two, tmp_path / "o", method="max")
    assert other.videos == ["v"] and not other.kept, "that was another fusion"
    assert (tmp_path / "o" / "scores" / "w.parquet").is_file()


def test_a_damaged_part_and_other_footage_are_failures(two: Any, tmp_path: Path) -> None:
    (two[0] / "scores" / "v.parquet").write_bytes(b"PAR1")
    done = fuse_scores(two, tmp_path / "o")
    assert done.videos == ["w"]
    assert [(f.video_id, f.error) for f in done.failures] == [("v", "ScoreFolderError")]
    shutil.rmtree(two[0])
    write_score_folder(two[0], SCORES, NORMAL, content="other")
    with pytest.raises(FuseError, match=r"no video could be fused.*content_id differ"):
        fuse_scores(two, tmp_path / "o")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("score", float("nan"), "'score' of v is not finite"),
        ("score", float("inf"), "'score' of v is not finite"),
        ("frame_stop", 2**31, "scores up to frame 2147483648"),  # 16 GiB as frames
    ],
)
def test_scores_that_no_video_has_are_a_failure_of_it(
    two: Any, tmp_path: Path, column: str, value: float, message: str
) -> None:
    path = two[0] / "scores" / "v.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index(column)
    field = table.schema.field(column)
    values = [*table[column].to_pylist()[:-1], value]
    kind = pa.int64() if column == "frame_stop" else field.type
    pq.write_table(table.set_column(at, field.with_type(kind), pa.array(values, kind)), path)
    done = fuse_scores(two, tmp_path / "o")
    assert done.videos == ["w"]
    (failure,) = done.failures
    assert (failure.video_id, failure.error) == ("v", "FuseError") and message in failure.message


def test_parts_of_two_files_with_equal_samples_are_a_failure(two: Any, tmp_path: Path) -> None:
    """Between two runs of score, a file was filled again in place."""

    def scored(path: Path, whole_id: str) -> None:
        facts = {"n_frames": 64, "fps": 25.0, "flags": [], "whole_id": whole_id}
        ScoreFolder(path).write_scores("v", SCORES["v"], "stamp v", facts)

    scored(two[0], "f1-a")
    done = fuse_scores(two, tmp_path / "o")
    assert done.videos == ["v", "w"], "a part of an older version does not say it"
    assert whole_id_of(ScoreFolder(tmp_path / "o").notes("v")) == "f1-a"
    scored(two[1], "f1-b")
    done = fuse_scores(two, tmp_path / "p")
    assert done.videos == ["w"]
    assert [(f.video_id, f.error) for f in done.failures] == [("v", "FuseError")]
    assert "was another file" in done.failures[0].message


def test_few_common_held_out_videos_are_said(tmp_path: Path) -> None:
    write_score_folder(tmp_path / "a", SCORES, NORMAL)
    write_score_folder(tmp_path / "b", SCORES, {n: NORMAL[n] for n in ("n1", "n4")})
    done = fuse_scores([tmp_path / "a", tmp_path / "b"], tmp_path / "o")
    run = ScoreFolder(done.out).run()
    assert run["threshold"]["calibration"]["common_videos"] == ["n1", "n4"]
    assert "the 2 normal videos that all parts held out (of a 6, b 2)" in done.warnings[0]
    assert "rests on 2 normal videos only" in " ".join(run["threshold"]["warnings"])


def test_without_common_held_out_videos_there_is_no_event(tmp_path: Path) -> None:
    write_score_folder(tmp_path / "a", SCORES, NORMAL)
    write_score_folder(tmp_path / "b", SCORES, {"other": NORMAL["n1"]})
    parts = [str(tmp_path / "a"), str(tmp_path / "b")]
    result = CliRunner().invoke(cli, ["fuse", *parts, "-o", str(tmp_path / "o")])
    assert result.exit_code == 0, result.output
    folder = ScoreFolder(tmp_path / "o")
    assert folder.threshold() is None and folder.held_out() is None and not folder.events()
    assert "none of them in all parts" in folder.page.read_text(encoding="utf-8")
    assert evaluate_scores(folder.path, labelled(), replicates=0).metrics.false_alarms is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"c": 1.0}}, "a weight is given for c; the parts are: a, b"),
        ({"columns": {"c": "score"}}, "a column is given for c"),
        ({"weights": {"a": 0.0}}, "has to be above 0"),
        ({"weights": {"a": np.nan}}, "has to be above 0"),
        ({"weights": {"a": 1.0}, "method": "max"}, "the maximum has none"),
        ({"method": "mean"}, "none of: sum, max"),
        ({"columns": {"a": "x"}}, "no held-out column 'x'; there are: score"),
    ],
)
def test_settings_that_make_no_sense(two: Any, tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(FuseError, match=message):
        fuse_scores(two, tmp_path / "o", **options)
    assert not (tmp_path / "o").exists()


def test_folders_that_cannot_be_fused(two: Any, tmp_path: Path) -> None:
    with pytest.raises(FuseError, match="no score folder"):
        fuse_scores([], tmp_path / "o")
    with pytest.raises(FuseError, match="is one of the parts"):
        fuse_scores(two, two[0])
    with pytest.raises(FuseError, match="both called 'a'"):
        fuse_scores([two[0], two[0]], tmp_path / "o")
    write_score_folder(tmp_path / "model", SCORES, NORMAL)
    with pytest.raises(FuseError, match="holds the scores of a model"):
        fuse_scores(two, tmp_path / "model")
    ScoreFolder(two[1]).write_held_out(None)
    with pytest.raises(FuseError, match=r"run vadpipe score with models/test-1 again.*--force"):
        fuse_scores(two, tmp_path / "o")


@pytest.mark.parametrize("text", ["a", "a=", "=1", "a=x"])
def test_weights_on_the_command_line_are_numbers(two: Any, tmp_path: Path, text: str) -> None:
    arguments = ["fuse", *map(str, two), "-o", str(tmp_path / "o"), "--weight", text]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2 and repr(text)[1:-1].split("=")[-1] in result.output


def test_held_out_rows_of_the_fusion_have_its_columns(two: Any, tmp_path: Path) -> None:
    held_out = ScoreFolder(fuse_scores(two, tmp_path / "o").out).held_out()
    assert isinstance(held_out, HeldOut)
    assert held_out.columns == ("score", "quantile/a", "quantile/b")
