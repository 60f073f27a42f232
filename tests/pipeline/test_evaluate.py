"""Evaluate: rows on frames in both ways, labels of the reference, several runs, the command."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tests.score_folders import rows, write_score_folder
from vadpipe.data_manifests import write_manifest
from vadpipe.data_manifests.intervals import from_inclusive, from_labels
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.evaluate import evaluate_if_labelled, evaluate_runs, evaluate_scores
from vadpipe.pipeline.metrics.results import FrameMetrics
from vadpipe.pipeline.scores.events import EVENT_SCHEMA
from vadpipe.pipeline.scores.folder import ScoreFolderError
from vadpipe.pipeline.scores.frames import MetricsError
from vadpipe.pipeline.scores.video_tables import VIDEO_SCHEMA
from vadpipe.pipeline.tables.metrics import detail_lines, metrics_lines, runs_lines


class Run:
    """A score folder as the score stage leaves it, and the manifest of its videos."""

    def __init__(self, path: Path, *, weak: bool = True, dataset: str = "yard") -> None:
        self.path, self.dataset = path, dataset
        self.videos: list[dict[str, Any]] = []
        self.records: list[VideoRecord] = []
        (path / "scores").mkdir(parents=True)
        supervision = "weak" if weak else "normal_only"
        self.events: list[dict[str, Any]] = []
        self.run = {"model": {"supervision": supervision}, "threshold": {"high": 0.5, "low": 0.4}}

    def add(
        self,
        video_id: str,
        n_frames: int,
        anomalies: Any = (),
        *,
        rows: Any = None,
        score: Any = None,
        first: int = 0,
        **record: Any,
    ) -> Any:
        """A video; by default its rows are snippets of 16 frames with drawn scores."""
        start = np.arange(first, n_frames, 16)
        start, stop = (start, np.minimum(start + 16, n_frames)) if rows is None else rows
        start, stop = np.asarray(start, np.int64), np.asarray(stop, np.int64)
        if score is None:
            score = np.random.default_rng(n_frames).random(len(start)).round(2)
        score = np.asarray(score, np.float64)
        table = pa.table({"frame_start": start, "frame_stop": stop, "score": score})
        pq.write_table(table, self.path / "scores" / f"{video_id}.parquet")
        row = dict.fromkeys(VIDEO_SCHEMA.names)
        row |= {"video_id": video_id, "n_frames": n_frames, "fps": 25.0, "flags": []}
        self.videos.append(row | {"frame_start": first, "frame_stop": n_frames})
        self.records.append(
            VideoRecord(
                video_id=video_id, path=video_id, split="test", anomalies=anomalies, **record
            )
        )
        return score

    def write(self) -> Path:
        table = pa.Table.from_pylist(self.videos, schema=VIDEO_SCHEMA)
        pq.write_table(table, self.path / "videos.parquet")
        events = pa.Table.from_pylist(self.events, schema=EVENT_SCHEMA)
        pq.write_table(events, self.path / "events.parquet")
        (self.path / "run.json").write_text(json.dumps(self.run))
        return self.path

    @property
    def manifest(self) -> Manifest:
        return Manifest(dataset=self.dataset, root="/", records=tuple(self.records))

    def evaluate(self, **options: Any) -> FrameMetrics:
        return evaluate_scores(self.write(), self.manifest, **{"replicates": 0, **options}).metrics


def labels(n: int, *ranges: tuple[int, int]) -> np.ndarray:
    made = np.zeros(n, dtype=int)
    for start, stop in ranges:
        made[start:stop] = 1
    return made


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two abnormal videos (one ends abnormally, in the middle of a snippet) and a normal one."""
    made = Run(tmp_path / "out")
    made.add("a", 100, ((40, 100),))
    made.add("b", 70, ((3, 20), (30, 50)))
    made.add("c", 45)
    return made


def test_scores_scaled_in_each_video_are_measured_apart(run: Run) -> None:
    """Videos of very different levels, one of a single value, against scikit-learn."""
    run.videos.clear(), run.records.clear()
    a = run.add("a", 64, ((16, 32),), score=[1000.0, 1003.0, 1001.0, 1000.5])
    b = run.add("b", 64, ((0, 16),), score=[5e-9, 0.0, 2e-9, 1e-9])
    c = run.add("c", 48, score=[7.0, 7.0, 7.0])
    raw = run.evaluate(align="exact")
    scaled = run.evaluate(align="exact", normalise="video")
    expected = np.concatenate([(a - 1000) / 3, b / 5e-9, np.zeros(3)]).repeat(16)
    truth = np.concatenate([labels(64, (16, 32)), labels(64, (0, 16)), labels(48)])
    assert scaled.micro_auc == pytest.approx(roc_auc_score(truth, expected))
    flat = np.concatenate([a, b, c]).repeat(16)
    assert raw.micro_auc == pytest.approx(roc_auc_score(truth, flat))
    assert raw.false_alarms is not None and scaled.false_alarms is None
    kept = {path.name: json.loads(path.read_text()) for path in run.path.glob("metrics*.json")}
    assert kept["metrics.json"]["micro_auc"] == raw.micro_auc
    assert "normalise" not in kept["metrics.json"]
    assert kept["metrics-score%40video.json"]["normalise"] == "video"


def test_frames_without_a_row_can_be_left_out_with_their_labels(tmp_path: Path) -> None:
    """As LNTRA does: the first 8 and the last 7 frames of each video, and a gap."""
    run = Run(tmp_path / "out")
    n, at = 40, np.arange(8, 33)
    a = run.add("a", n, ((0, 20), (35, 40)), rows=(at, at + 1), score=np.sin(at))
    gap = np.array([0, 20, 30])
    b = run.add("b", 60, ((5, 25),), rows=(gap + 10, gap + 15), score=[3.0, 0.1, 0.2], first=10)
    whole = run.evaluate(column="score")
    scored = evaluate_scores(run.path, run.manifest, replicates=20, scored_only=True)
    truth = np.concatenate(
        [labels(n, (0, 20), (35, 40))[at], labels(60, (5, 25))[[*range(10, 15)]]]
    )
    truth = np.concatenate([truth, np.zeros(10, int)])
    expected = roc_auc_score(truth, np.concatenate([a, b.repeat(5)]))
    assert scored.metrics.micro_auc == pytest.approx(expected)
    assert whole.micro_auc != pytest.approx(expected)
    assert (whole.n_frames, scored.metrics.n_frames) == (90, 40)
    assert scored.left_out == 50 and scored.to_json()["left_out"] == 50
    assert [(v.n_frames, v.n_abnormal) for v in scored.metrics.videos] == [(25, 12), (15, 5)]
    assert scored.metrics.false_alarms is not None, "thresholds have raw scores"
    scaled = run.evaluate(normalise="video", scored_only=True)
    low_high = [(v - v.min()) / np.ptp(v) for v in (a, b.repeat(5))]
    assert scaled.micro_auc == pytest.approx(roc_auc_score(truth, np.concatenate(low_high)))
    kept = {path.name for path in run.path.glob("metrics*.json")}
    assert kept == {
        *("metrics.json", "metrics-score%40scored.json"),
        "metrics-score%40video%2Bscored.json",
    }
    assert "scored_only" not in json.loads((run.path / "metrics.json").read_text())
    assert "50 of 90 are left out" in "\n".join(metrics_lines(scored))
    runs = evaluate_runs([run.path], run.manifest, replicates=0, scored_only=True)
    assert "without 50 frames" in "\n".join(runs_lines(runs))


def test_scored_frames_only_are_all_frames_where_all_have_a_row(run: Run) -> None:
    ours, all_frames = run.evaluate(align="exact", scored_only=True), run.evaluate(align="exact")
    assert ours.events is None  # they are of all frames
    left_out = {"alignment": None, "events": None}
    assert ours.model_copy(update=left_out) == all_frames.model_copy(update=left_out)
    with pytest.raises(MetricsError, match="pad16 adds frames after the ends"):
        run.evaluate(align="pad16", scored_only=True)


def test_the_command_says_that_scores_are_scaled(run: Run, tmp_path: Path) -> None:
    write_manifest(run.manifest, tmp_path / "m.csv")
    command = ["evaluate", str(run.write()), str(tmp_path / "m.csv"), "--bootstrap", "0"]
    said = "scores of each video are scaled to [0, 1]"
    assert said not in CliRunner().invoke(cli, command).output
    done = CliRunner().invoke(cli, [*command, "--normalise", "video"])
    assert done.exit_code == 0 and said in done.output
    done = CliRunner().invoke(cli, [*command, "--scored-only"])
    assert done.exit_code == 0 and "0 of 215 are left out" in done.output


@pytest.mark.parametrize(("dataset", "tail"), [("shanghaitech", 1), ("ucf_crime", 0), ("yard", 0)])
def test_pad16_repeats_snippets_and_pads_as_the_data_set_does(tmp_path, dataset, tail):
    run = Run(tmp_path / "out", dataset=dataset)
    a = run.add("a", 100, ((40, 100),))
    b = run.add("b", 70, ((3, 20), (30, 50)))
    c = run.add("c", 45)
    score = np.concatenate([a.repeat(16), b.repeat(16), c.repeat(16)])
    label = np.concatenate(
        [labels(100, (40, 100)), [tail] * 12, labels(70, (3, 20), (30, 50)), [0] * 10, [0] * 48]
    )
    got = run.evaluate()
    assert got.micro_auc == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert (got.n_frames, got.n_abnormal) == (215, 97)
    assert (got.n_padding, got.n_padding_abnormal) == (12 + 10 + 3, 12 * tail)
    assert (got.alignment.used, got.alignment.asked) == ("pad16", "auto")
    assert got.alignment.pad_label == ("last" if tail else "normal")
    exact = run.evaluate(align="exact")
    cut = np.concatenate([a.repeat(16)[:100], b.repeat(16)[:70], c.repeat(16)[:45]])
    real = np.concatenate([labels(100, (40, 100)), labels(70, (3, 20), (30, 50)), labels(45)])
    assert exact.micro_auc == pytest.approx(roc_auc_score(real, cut), abs=1e-12)
    assert exact.n_padding == 0 and exact.n_frames == got.n_frames
    for one in (got, exact):
        assert one.alignment.exact_micro_auc == pytest.approx(exact.micro_auc, abs=1e-12)
        assert one.alignment.pad16_micro_auc == pytest.approx(got.micro_auc, abs=1e-12)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_pad16_equals_exact_where_lengths_are_multiples_of_16(tmp_path_factory, lengths, seed):
    rng = np.random.default_rng(seed)
    run = Run(tmp_path_factory.mktemp("pad") / "out", dataset="shanghaitech")
    for i, n in enumerate(lengths):
        marks = from_labels(rng.integers(0, 2, 16 * n))
        run.add(f"v{i}", 16 * n, marks, score=rng.random(n).round(1))
    padded, exact = (run.evaluate(align=align, replicates=20) for align in ("pad16", "exact"))
    facts = padded.alignment.model_copy(update={"used": "exact", "asked": "exact"})
    assert padded.model_copy(update={"alignment": facts}) == exact


def test_auto_takes_pad16_for_weak_detectors_with_snippets_only(tmp_path: Path):
    strong = Run(tmp_path / "strong", weak=False)
    strong.add("a", 100, ((40, 100),))
    got = strong.evaluate().alignment
    assert got.used == "exact" and got.pad16_micro_auc is not None
    assert strong.evaluate(align="pad16").alignment.used == "pad16"
    strong.add("b", 40, rows=([0, 8, 16, 24], [16, 24, 32, 40]))
    assert strong.evaluate().alignment.pad16_micro_auc is None
    weak = Run(tmp_path / "weak")
    weak.add("a", 100, ((40, 100),))
    weak.add("b", 40, rows=([0, 8, 16, 24], [16, 24, 32, 40]))
    assert weak.evaluate().alignment.used == "exact"
    weak.run = {}  # a folder that says nothing of its model
    assert weak.evaluate().alignment.used == "exact"


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ({"rows": ([0, 16], [16, 30])}, "row 1 of odd is [16, 30)"),
        ({"rows": ([0, 15, 32], [16, 32, 40])}, "row 1 of odd is [15, 32)"),
        ({"rows": ([0, 16, 32], [16, 32, 60])}, "row 2 of odd is [32, 60)"),
        ({"rows": ([0, 16], [16, 32])}, "the 2 rows of odd do not end with its 40 frames"),
        ({"rows": ([0, 16, 32, 48], [16, 32, 40, 64])}, "the 4 rows of odd do not end with"),
        ({"first": 16}, "odd is measured from frame 16 on"),
    ],
)
def test_pad16_refuses_what_are_no_snippets(run: Run, video, message):
    run.add("odd", 40, **video)
    with pytest.raises(MetricsError, match=re.escape(message) + ".*1 of 4 videos.*--align exact"):
        run.evaluate(align="pad16")


def test_rows_in_any_order_and_padded_last_snippets_are_snippets(tmp_path: Path):
    run, other = Run(tmp_path / "out"), Run(tmp_path / "other")
    score = run.add("a", 40, ((5, 9),), score=[0.1, 0.9, 0.4])
    other.add("a", 40, ((5, 9),), rows=([32, 0, 16], [48, 16, 32]), score=score[[2, 0, 1]])
    assert run.evaluate() == other.evaluate()
    assert other.evaluate().alignment.rows == "snippets of 16 frames"


@pytest.mark.parametrize("n_frames", [20, 100, 1000])
@pytest.mark.parametrize("unit", [1, 16])
def test_32_segments_are_expanded_by_their_own_frames(tmp_path: Path, n_frames: int, unit: int):
    run = Run(tmp_path / "out")
    edges = np.trunc(np.linspace(0, -(-n_frames // unit), 33)).astype(int)
    stops = np.minimum(unit * np.maximum(edges[1:], edges[:-1] + 1), n_frames)
    score = run.add("a", n_frames, ((3, n_frames - 5),), rows=(unit * edges[:-1], stops))
    got = run.evaluate()
    assert (got.alignment.used, got.alignment.rows) == ("exact", "32 segments a video")
    assert "32 segments a video" in "\n".join(
        metrics_lines(evaluate_scores(run.path, run.manifest))
    )
    covering = [
        [s for a, b, s in zip(unit * edges[:-1], stops, score, strict=True) if a <= frame < b]
        for frame in range(n_frames)
    ]
    expected = roc_auc_score(labels(n_frames, (3, n_frames - 5)), [np.mean(c) for c in covering])
    assert got.micro_auc == pytest.approx(expected, abs=1e-12)
    with pytest.raises(MetricsError, match="--align exact"):
        run.evaluate(align="pad16")


def test_labels_of_another_length_are_refused(tmp_path: Path):
    run = Run(tmp_path / "out")
    run.add("a", 100, ((40, 101),))
    run.add("b", 100, ((40, 90),), expected_frames=112)
    run.add("c", 100, ((40, 100),), expected_frames=100)
    message = r"a \(labels for at least 101 frames, decoded 100\); b \(labels for 112 frames"
    for align in ("exact", "pad16"):
        with pytest.raises(MetricsError, match=message):
            run.evaluate(align=align)


def test_a_broken_folder_says_what_is_missing(run: Run):
    run.write()
    for name, text, message in (
        ("run.json", "[1", "damaged"),
        ("run.json", "[1]", "not a JSON object"),
        ("run.json", None, "has no run.json"),
        ("videos.parquet", None, "has no videos.parquet"),
    ):
        if text is None:
            (run.path / name).unlink()
        else:
            (run.path / name).write_text(text)
        with pytest.raises(ScoreFolderError, match=message):
            evaluate_scores(run.path, run.manifest)


def test_a_bad_score_names_its_video(run: Run):
    run.add("bad", 40, score=[0.1, np.nan, 0.2])
    with pytest.raises(MetricsError, match="bad: scores are not finite"):
        run.evaluate()


def test_metrics_json_holds_everything_and_names_what_is_left_out(run: Run):
    run.records[0] = run.records[0].model_copy(update={"category": "Arson"})
    run.add("dark", 40, anomalies=None)
    run.records.append(VideoRecord(video_id="gone", path="gone", split="test", anomalies=()))
    done = evaluate_scores(run.write(), run.manifest)
    values = json.loads((run.path / "metrics.json").read_text())
    assert values == done.to_json() and FrameMetrics.from_json(values) == done.metrics
    assert (done.unlabelled, done.unscored) == (("dark",), ("gone",))
    assert values["bootstrap"]["replicates"] == 1000 and values["bootstrap"]["seed"] == 0
    assert values["false_alarms"]["threshold"] == 0.5 and values["false_alarms"]["n_videos"] == 1
    text = "\n".join(metrics_lines(done) + detail_lines(done))
    for words in (
        "pad16 gives" if values["alignment"]["used"] == "exact" else "exact gives",
        "95 % intervals: 1000 bootstrap samples of 2 abnormal and 1 normal videos, seed 0",
        "above the threshold 0.5: ",
        f"score gap {done.metrics.score_gap:.4g}: mean score of abnormal frames",
        "micro AUC of abnormal videos only",
        "  Arson\tmicro AUC ",
        "1 abnormal video has no category",
        "without frame labels: dark",
        "without scores: gone",
        "  c\t-\t0 of 45 frames abnormal",
    ):
        assert words in text, words
    measured, failures = evaluate_if_labelled(run.path, run.manifest)
    assert measured is not None and metrics_lines(measured) == metrics_lines(done)
    assert not failures


def test_events_are_compared_with_anomalies(tmp_path: Path) -> None:
    run = Run(tmp_path / "out")
    run.add("a", 250, ((100, 120), (120, 150), (200, 210)))
    run.add("b", 250)
    times = dict.fromkeys(("start_s", "end_s", "peak_s", "peak_score", "mean_score"), 0.0)
    for video_id, start, stop in (("a", 110, 150), ("b", 0, 20)):
        run.events.append(
            {
                **{"video_id": video_id, "event_id": f"{video_id}-e1", "peak_frame": start},
                **{"frame_start": start, "frame_stop": stop, **times},
            }
        )
    found = run.evaluate()
    events = found.events
    assert events is not None
    assert (events.n_right, events.n_events, events.n_found, events.n_anomalies) == (1, 2, 1, 2)
    assert events.n_paired == 1
    assert events.median_delay == pytest.approx(10 / run.videos[0]["fps"])
    assert FrameMetrics.from_json(found.to_json()) == found
    done = evaluate_scores(run.write(), run.manifest, replicates=0)
    assert any(
        line.startswith("events: precision 50.00 (1 of 2 right), recall 50.00 (1 of 2")
        for line in metrics_lines(done)
    )
    for options in ({"normalise": "video"}, {"smooth": None, "scored_only": True}):
        assert run.evaluate(**options).events is None
    (run.write() / "events.parquet").unlink()
    without = evaluate_scores(run.path, run.manifest, replicates=0).metrics
    assert without.events is None
    assert "events.parquet" in without.undefined["events"]
    run.run = {"model": {}, "threshold": None}
    assert run.evaluate().events is None


def test_without_a_threshold_there_are_no_false_alarms(run: Run):
    for threshold in (None, {}, {"high": None}, {"high": float("nan")}):
        run.run["threshold"] = threshold
        assert run.evaluate().false_alarms is None


def three_runs(tmp_path: Path) -> list[Run]:
    runs = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        made = Run(tmp_path / f"seed{seed}")
        for name, n, marks in (("a", 100, ((40, 100),)), ("b", 70, ((3, 20),)), ("c", 45, ())):
            made.add(name, n, marks, score=rng.random(-(-n // 16)))
        made.write()
        runs.append(made)
    return runs


def test_several_runs_give_mean_and_spread(tmp_path: Path):
    runs = three_runs(tmp_path)
    done = evaluate_runs([run.path for run in runs], runs[0].manifest, replicates=0)
    for name in ("micro_auc", "average_precision"):
        each = [getattr(run.evaluate(), name) for run in runs]
        spread = done.spread[name]
        assert len(set(each)) == 3
        assert (spread.min, spread.max) == (min(each), max(each))
        assert spread.mean == pytest.approx(sum(each) / 3)
        variance = sum((x - sum(each) / 3) ** 2 for x in each) / 2
        assert spread.std == pytest.approx(variance**0.5)
    lines = runs_lines(done)
    assert len(lines) == 5 and lines[0].startswith(f"{runs[0].path}\tmicro AUC ")
    assert f"mean {100 * done.spread['micro_auc'].mean:.2f}" in lines[3]
    assert all((run.path / "metrics.json").is_file() for run in runs)
    one = evaluate_runs([runs[0].path], runs[0].manifest, replicates=0)
    assert one.spread == {}


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path):
    runs = three_runs(tmp_path)
    paths = [run.path for run in runs]
    with pytest.raises(MetricsError, match="twice"):
        evaluate_runs([paths[0], paths[0] / ".." / paths[0].name], runs[0].manifest)
    runs[1].videos.pop()
    runs[1].write()
    with pytest.raises(MetricsError, match="seed1 is about other videos"):
        evaluate_runs(paths, runs[0].manifest)
    runs[2].run["model"]["supervision"] = "normal_only"
    runs[2].write()
    with pytest.raises(MetricsError, match=r"seed2 is measured with exact, .*seed0 with pad16"):
        evaluate_runs([paths[0], paths[2]], runs[0].manifest)
    evaluate_runs([paths[0], paths[2]], runs[0].manifest, align="exact")


def test_runs_without_a_number_have_no_mean(tmp_path: Path):
    runs = [Run(tmp_path / name) for name in "ab"]
    for run in runs:
        run.add("n", 40)
        run.write()
    done = evaluate_runs([run.path for run in runs], runs[0].manifest)
    assert done.spread == {} and "micro AUC is undefined in a run: no mean" in runs_lines(done)


def test_the_command_takes_one_folder_or_several(tmp_path: Path):
    runs = three_runs(tmp_path)
    write_manifest(runs[0].manifest, tmp_path / "m.parquet")
    folders = [str(run.path) for run in runs]

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, ["evaluate", *arguments, str(tmp_path / "m.parquet")])
        assert result.exit_code == code, result.output
        return result.stdout

    one = json.loads(call(folders[0], "--json"))
    assert one == json.loads((runs[0].path / "metrics.json").read_text())
    assert one["alignment"]["used"] == "pad16" and one["bootstrap"]["replicates"] == 1000
    assert "alignment pad16: snippets of 16 frames" in call(folders[0])
    text = call(folders[0], "--align", "exact", "--bootstrap", "0")
    assert "alignment exact" in text and "bootstrap samples" not in text
    assert "micro AUC of 3 runs: mean " in call(*folders)
    several = json.loads(call(*folders, "--json", "--bootstrap", "10"))
    assert [run["scores"] for run in several["runs"]] == folders
    assert set(several["spread"]["average_precision"]) == {"mean", "std", "min", "max"}
    call(code=2)


@pytest.mark.data
def test_shanghaitech_is_padded_like_the_reference(shared: Path, tmp_path: Path):
    golden = json.loads((shared / "golden" / "g12_ground_truth.json").read_text())
    expected = golden["shanghaitech_ws"]["test"]
    run = Run(tmp_path / "out", dataset="shanghaitech")
    for video_id in expected["per_abnormal_video_padded"]:
        mask = np.load(shared / f"data/labels/shanghaitech/test_frame_mask/{video_id}.npy")
        run.add(video_id, len(mask), from_labels(mask))
    got = run.evaluate()
    for video in got.videos:
        padded_length, _ = expected["per_abnormal_video_padded"][video.video_id]
        assert video.n_frames + video.n_padding == padded_length, video.video_id
    assert got.n_frames == expected["frames_real_of_abnormal_videos"]
    assert got.n_frames + got.n_padding == expected["frames_padded_of_abnormal_videos"]
    assert got.n_abnormal == expected["abnormal_frames_real"] == 7962
    assert got.n_abnormal + got.n_padding_abnormal == expected["abnormal_frames_padded"] == 8028


@pytest.mark.data
def test_ucf_crime_at_full_size(shared: Path, tmp_path: Path):
    """All 290 test videos: totals of the reference, in seconds."""
    golden = json.loads((shared / "golden" / "g12_ground_truth.json").read_text())
    expected = golden["ucf_crime"]["test"]
    run = Run(tmp_path / "out", dataset="ucf_crime")
    listed = shared / "data/labels/ucf_crime/Temporal_Anomaly_Annotation.txt"
    for line in listed.read_text().splitlines():
        if not line.strip():
            continue
        name, category, *ends = line.split()
        video_id = name.removesuffix(".mp4")
        n = expected["per_video"][video_id][0]
        pairs = [(int(a), int(b)) for a, b in (ends[:2], ends[2:]) if int(a) >= 0]
        marks = from_inclusive(pairs, first=0, n_frames=n, clip=True)
        run.add(video_id, n, marks, category=category, expected_frames=n)
    run.write()
    begin = time.process_time()
    got = run.evaluate(replicates=1000)
    assert time.process_time() - begin < 30  # about 1 s on one core
    assert got.n_frames == expected["frames_real"] == 1_111_808
    assert got.n_frames + got.n_padding == expected["frames_ceil16"] == 1_114_144
    assert got.n_abnormal == expected["abnormal_frames_0based_inclusive_clipped"] == 84_331
    assert got.n_padding_abnormal == 0
    assert len(got.categories) == 13 and sum(c.n_videos for c in got.categories) == 140
    assert (got.bootstrap.n_abnormal_videos, got.bootstrap.n_normal_videos) == (140, 150)
    assert got.bootstrap.micro_auc[0] < got.micro_auc < got.bootstrap.micro_auc[1]


def test_another_column_is_measured_and_kept_apart(tmp_path: Path) -> None:
    normal = {f"n{i}": rows(np.arange(9), near=-np.arange(9.0)) for i in range(5)}
    scores = {"v": rows([0, 1, 2, 3], near=[3, 2, 1, 0])}
    folder = write_score_folder(tmp_path / "out", scores, normal)
    record = VideoRecord(video_id="v", path="v.mp4", split="test", anomalies=((16, 32),))
    listed = Manifest(dataset="tiny", root="/none", records=(record,))
    first = evaluate_scores(folder.path, listed, replicates=0)
    other = evaluate_scores(folder.path, listed, replicates=0, column="near")
    assert (first.metrics.micro_auc, other.metrics.micro_auc) == (1.0, 0.0)
    assert "column" not in first.to_json() and other.to_json()["column"] == "near"
    assert folder.metrics() == json.loads(json.dumps(first.to_json()))
    assert folder.metrics("near") == json.loads(json.dumps(other.to_json()))
    alarms = other.metrics.false_alarms
    assert alarms is not None and alarms.threshold <= 0.0, "that of the column"
    with pytest.raises(ScoreFolderError, match="no score column 'far'; it has: score, near"):
        evaluate_scores(folder.path, listed, column="far")
    folder.remove_metrics()
    assert folder.metrics() is None and folder.metrics("near") is None
