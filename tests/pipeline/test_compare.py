"""Systems side by side: the numbers are those of the folders, other footage is refused."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.score_folders import rows, write_score_folder
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.compare import METRICS, CompareError, compare_scores
from vadpipe.pipeline.evaluate import evaluate_scores
from vadpipe.pipeline.scores.folder import ScoreFolder, ScoreFolderError
from vadpipe.pipeline.scores.of_run import commit_of
from vadpipe.pipeline.scores.same_footage import OtherFootageError
from vadpipe.pipeline.store.keys import folder_name
from vadpipe.pipeline.tables.comparison import comparison_csv, comparison_lines, write_comparison

RECIPE = {"extractor": "null", "config": {"stride": 8}}
LABELS = {"a": ((16, 40),), "b": ((0, 24),)}


def labelled(labels: dict[str, Any] = LABELS) -> Manifest:
    records = tuple(
        VideoRecord(video_id=name, path=f"{name}.mp4", split="test", label=1, anomalies=spans)
        for name, spans in labels.items()
    )
    return Manifest(dataset="tiny", root="/none", records=records)


def scored(path: Path, seed: int = 0, *, videos: str = "ab", **more: Any) -> Path:
    random = np.random.default_rng(seed)
    model = {"seed": seed, "config": {"k": seed}, "features": {"snippet": RECIPE}}
    write_score_folder(
        path,
        {name: rows(random.random(8)) for name in videos},
        {"n": rows(random.random(40))},
        model=model | more.pop("model", {}),
        **more,
    )
    return path


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    folders = [scored(tmp_path / name, seed) for seed, name in enumerate(("one", "two"))]
    for folder in folders:
        evaluate_scores(folder, labelled(), replicates=0)
    return folders


def test_the_numbers_are_those_of_the_folders(two: list[Path]) -> None:
    done = compare_scores(two)
    assert [system.name for system in done.systems] == ["one", "two"]
    assert (done.n_videos, done.n_frames, done.n_abnormal) == (2, 128, 48)
    for folder, system in zip(two, done.systems, strict=True):
        kept = json.loads((folder / "metrics.json").read_text())
        assert system.metrics["micro_auc"] == kept["micro_auc"]
        assert system.metrics["average_precision"] == kept["average_precision"]
        assert system.metrics["macro_auc_padded"] == kept["macro_auc_padded"]
        assert system.metrics["event_recall"] == kept["events"]["recall"]
        assert system.metrics["rbdc"] is None
        assert system.features == {"snippet": folder_name("null", RECIPE)}
    assert [system.seed for system in done.systems] == [0, 1]
    assert done.systems[0].metrics != done.systems[1].metrics


def test_the_forms_have_the_same_numbers(two: list[Path], tmp_path: Path) -> None:
    done = compare_scores(two)
    table = list(csv.DictReader(io.StringIO(comparison_csv(done))))
    lines = comparison_lines(done)
    for system, line in zip(done.systems, table, strict=True):
        for name in METRICS:
            value = system.metrics[name]
            assert line[name] == ("" if value is None else repr(value))
        auc = system.metrics["micro_auc"]
        assert auc is not None
        (row,) = [text for text in lines if text.startswith(f"| {system.name} | {100 * auc:.2f} |")]
        assert json.loads(line["settings"]) == dict(system.settings)
        assert "-" not in row.split("|")[2]
    assert not any("RBDC |" in line for line in lines)  # none has any
    write_comparison(done, tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text()) == json.loads(json.dumps(done.to_json()))
    write_comparison(done, tmp_path / "t.MD")
    assert (tmp_path / "t.MD").read_text() == "\n".join([*lines, ""])
    with pytest.raises(CompareError, match=r"\.md, \.csv, \.json"):
        write_comparison(done, tmp_path / "t.txt")


def test_a_run_folder_stands_for_its_scores_and_notes_a_commit(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for seed in (10, 2):
        evaluate_scores(scored(run / "scores" / f"s{seed}", seed), labelled(), replicates=0)
    state = {"commit": "0123456789abcdef0123456789abcdef01234567", "changed": True}
    (run / "environment.json").write_text(json.dumps({"git": state}))
    done = compare_scores([run])
    assert [system.name for system in done.systems] == ["s2", "s10"]
    assert {system.commit for system in done.systems} == {f"{state['commit']} (changed)"}
    assert any(line.endswith("| 0123456789ab (changed) |") for line in comparison_lines(done))
    with pytest.raises(ScoreFolderError, match="named twice"):
        compare_scores([run, run / "scores" / "s2"])
    for git in (None, {}, {"commit": 3}, "x"):
        (run / "environment.json").write_text(json.dumps({"git": git}))
        assert commit_of(ScoreFolder(run / "scores" / "s2")) is None
    (run / "environment.json").write_text("{")
    assert commit_of(ScoreFolder(run / "scores" / "s2")) is None


Change = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: scored(p, videos="abc"), "lacks videos that .* has: c"),
        (lambda p: scored(p, videos="a"), "lacks videos that .* has: b"),
        (lambda p: scored(p, content="5"), "content_id of a differ, and 2 of 2"),
    ],
)
def test_other_footage_is_refused(
    two: list[Path], tmp_path: Path, change: Change, said: str
) -> None:
    change(tmp_path / "three")
    for folders in ([two[0], tmp_path / "three"], [tmp_path / "three", two[0]]):
        with pytest.raises(OtherFootageError, match=said):
            compare_scores(folders)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"a": ((16, 48),), "b": ((0, 24),)}, "a has 64 measured frames, 24 of them abnormal"),
        ({"a": ((16, 40),)}, r"measured on other videos \(b\)"),
    ],
)
def test_other_labels_are_refused(two: list[Path], labels: dict[str, Any], said: str) -> None:
    evaluate_scores(two[1], labelled(labels), replicates=0)
    with pytest.raises(CompareError, match=said):
        compare_scores(two)


def test_labels_that_moved_and_kept_their_numbers_are_refused(two: list[Path]) -> None:
    evaluate_scores(two[1], labelled({"a": ((16, 40),), "b": ((8, 32),)}), replicates=0)
    with pytest.raises(
        CompareError, match="b was measured against other labels in two than in one"
    ):
        compare_scores(two)


def without_digest(folder: Path) -> None:
    """Metrics as an earlier version wrote them."""
    file = folder / "metrics.json"
    values = json.loads(file.read_text())
    for each in (values, *values["videos"]):
        del each["labels_sha256"]
    del values["latency_aware_ap"]
    file.write_text(json.dumps(values))


def test_measurements_without_a_digest_are_said_to_be_so(two: list[Path]) -> None:
    digest = compare_scores(two).labels_sha256
    assert digest is not None and len(digest) == 64 and not compare_scores(two).without_labels
    assert not any("earlier version" in line for line in comparison_lines(compare_scores(two)))
    without_digest(two[0])
    done = compare_scores(two)
    assert (done.without_labels, done.labels_sha256) == (("one",), digest)
    assert comparison_lines(done)[-1].startswith("Measured by an earlier version: one. ")
    assert done.to_json()["without_labels"] == ["one"]
    assert done.systems[0].metrics["latency_aware_ap"] is None
    assert any("| latency-aware AP |" in line for line in comparison_lines(done))
    without_digest(two[1])
    both = compare_scores(two)
    assert both.labels_sha256 is None and both.without_labels == ("one", "two")


def test_a_third_system_is_compared_with_all_that_have_a_digest(
    two: list[Path], tmp_path: Path
) -> None:
    without_digest(two[0])
    three = scored(tmp_path / "three", 3)
    evaluate_scores(three, labelled({"a": ((20, 44),), "b": ((0, 24),)}), replicates=0)
    with pytest.raises(CompareError, match="a was measured against other labels in three"):
        compare_scores([*two, three])


def test_another_alignment_is_refused(two: list[Path]) -> None:
    file = two[1] / "metrics.json"
    values = json.loads(file.read_text())
    values["alignment"]["used"] = "pad16"
    file.write_text(json.dumps(values))
    with pytest.raises(CompareError, match="one is aligned by exact, two by pad16"):
        compare_scores(two)


def test_what_was_not_measured_is_named(two: list[Path], tmp_path: Path) -> None:
    (two[1] / "metrics.json").unlink()
    done = compare_scores(two)
    assert not done.systems[1].measured
    assert comparison_lines(done)[-1] == "Not measured: two."
    (two[0] / "metrics.json").unlink()
    with pytest.raises(CompareError, match="run vadpipe evaluate"):
        compare_scores(two)
    with pytest.raises(ScoreFolderError, match="no run folder"):
        compare_scores([tmp_path])
    with pytest.raises(CompareError, match="no score folder to compare"):
        compare_scores([])


def test_texts_of_a_folder_stay_in_their_cells(tmp_path: Path) -> None:
    name = "=1+1|<img src=x>[a](b)\x1b"
    folder = scored(tmp_path / name, model={"detector": "@x\n| y |", "config": {"a": "=2"}})
    evaluate_scores(folder, labelled(), replicates=0)
    done = compare_scores([folder])
    text = "\n".join(comparison_lines(done))
    assert "\x1b" not in text and "<img" not in text.replace("\\<img", "")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    assert len(set(bars[:3])) == 1 and len(set(bars[3:])) == 1 and len(bars) == 6
    (row,) = csv.DictReader(io.StringIO(comparison_csv(done)))
    assert row["system"].startswith("'=") and row["detector"].startswith("'@")


@pytest.mark.parametrize(
    "model",
    [{"seed": "x"}, {"features": {"snippet": 3}}, {"features": {"snippet": {}}}, {"seed": True}],
)
def test_a_damaged_run_is_an_error_that_names_it(tmp_path: Path, model: dict[str, Any]) -> None:
    folder = scored(tmp_path / "one", model=model)
    evaluate_scores(folder, labelled(), replicates=0)
    with pytest.raises(ScoreFolderError, match=r"run\.json"):
        compare_scores([folder])


def test_the_command_prints_and_writes(two: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    called = CliRunner().invoke(cli, ["compare", *map(str, two), "-o", str(out)])
    assert called.exit_code == 0, called.output
    done = compare_scores(two)
    assert called.output.splitlines() == comparison_lines(done)
    assert out.read_text() == comparison_csv(done)
    called = CliRunner().invoke(cli, ["compare", *map(str, two), "--json"])
    assert json.loads(called.output) == json.loads(json.dumps(done.to_json()))
