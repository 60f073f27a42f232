"""vadpipe drift: scores against held-out rows, camera by camera; advice and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.page_folders import FPS, ScoreFolder
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.data_manifests.table import write_manifest
from vadpipe.detectors.base import Scores
from vadpipe.pipeline import drift as drift_module
from vadpipe.pipeline.cli import drift as drift_cli
from vadpipe.pipeline.cli.main import cli
from vadpipe.pipeline.drift import Drifted, DriftError, compared, find_drift
from vadpipe.pipeline.models import ModelFolder
from vadpipe.pipeline.review.pictures import Limits
from vadpipe.pipeline.scores.camera_drift import _without, drift_of
from vadpipe.pipeline.scores.folder import ScoreFolder as Opened
from vadpipe.pipeline.scores.held_out import HeldOut
from vadpipe.pipeline.store.failures import Failure, write_failures
from vadpipe.pipeline.store.probe_table import Probed

STEP = 16  # frames of a row, see `ScoreFolder.add`
ROWS = int(600 * FPS / STEP)  # ten minutes


def scores(seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, ROWS)


def held_out(scenes: dict[str, str], *, rates: bool = True) -> HeldOut:
    found = []
    for seed, _ in enumerate(scenes):
        start = np.arange(ROWS) * STEP
        found.append(Scores(start, start + STEP, {"score": scores(seed)}))
    fps = dict.fromkeys(scenes, FPS) if rates else None
    made = HeldOut.from_scores(list(scenes), found, fps)
    return made.with_scenes(dict(scenes)) if any(scenes.values()) else made


def folder(out: Path, shifts: dict[str, float], scene: bool = True, rates: bool = True) -> Opened:
    """New footage of the cameras "gate-2", ...: its scores are shifted."""
    made = ScoreFolder(out)
    for seed, (name, shift) in enumerate(shifts.items()):
        made.add(name, scores(100 + seed, shift))
    made.write(model={"key": "k", "detector": "knn", "folder": "/models/knn-1"})
    opened = Opened(out)
    if scene:
        import pyarrow as pa

        table = pq.read_table(out / "videos.parquet")
        own = pa.array([name.partition("-")[0] for name in shifts], pa.string())
        pq.write_table(table.append_column("scene", own), out / "videos.parquet")
    known = {f"{c}-1": c if scene else "" for c in ("gate", "yard")}
    opened.write_held_out(held_out(known, rates=rates))
    return opened


def test_only_the_camera_that_has_moved_is_named_with_what_to_do(tmp_path: Path) -> None:
    found = drift_of(folder(tmp_path / "s", {"gate-2": 0.0, "yard-2": 1.5, "new-1": 0.0}))
    assert found is not None
    assert {c.camera: c.state for c in found.cameras} == {
        "gate": "same", "yard": "moved", "new": "cannot tell",
    }  # fmt: skip
    said = "\n".join(found.lines())
    assert "camera gate: no difference was seen (9 stretches of 60 s against 9" in said
    assert "camera yard: the scores have moved" in said and "quantiles 0.5: " in said
    assert "camera new: cannot tell, as training knows nothing of it" in said
    advice = "\n".join(found.advice())
    assert "one value would not fit all cameras" in advice
    assert "vadpipe train knn MANIFEST" in advice


def test_one_camera_gets_a_value_for_its_threshold(tmp_path: Path) -> None:
    found = drift_of(folder(tmp_path / "s", {"a": 1.0, "b": 1.0}, scene=False))
    assert found is not None and [c.camera for c in found.cameras] == [""]
    (camera,) = found.cameras
    assert camera.fitted is not None and camera.fitted == pytest.approx(3.0, abs=0.5)  # 2 + 1
    advice = "\n".join(found.advice())
    assert f"vadpipe threshold /models/knn-1 --value {camera.fitted:.6g}" in advice
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["cameras"][0]["state"] == "moved"


def run(*words: str) -> Any:
    return CliRunner().invoke(cli, ["drift", "knn", *words])


@pytest.mark.parametrize(
    ("shifts", "code"),
    [
        ({"gate-2": 0.0, "yard-2": 0.0}, 0),
        ({"gate-2": 2.0, "yard-2": 0.0}, 4),
        ({"gate-2": 0.0}, 5),
    ],
)
def test_the_exit_code_says_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shifts: dict[str, float], code: int
) -> None:
    model = ModelFolder(tmp_path / "knn")
    monkeypatch.setattr(ModelFolder, "find", classmethod(lambda *_: model))
    monkeypatch.setattr(ModelFolder, "card", lambda self: {"key": "k"})
    out = folder(tmp_path / "s", shifts).path
    done = run(str(out), "--json")
    assert done.exit_code == code, done.output
    assert {c["camera"] for c in json.loads(done.output)["cameras"]} == {"gate", "yard"}
    assert run(str(out), "-o", str(tmp_path / "x")).exit_code == 2
    monkeypatch.setattr(ModelFolder, "card", lambda self: {"key": "other"})
    refused = run(str(out))
    assert isinstance(refused.exception, DriftError)
    assert "holds scores of another model" in str(refused.exception)


def test_failures_of_an_earlier_run_are_replaced_when_scores_have_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = drift_of(folder(tmp_path / "s", {"gate-2": 2.0, "yard-2": 0.0}))
    monkeypatch.setattr(ModelFolder, "find", classmethod(lambda *_: ModelFolder(tmp_path)))
    monkeypatch.setattr(drift_cli, "open_target", lambda *_: None)
    (tmp_path / "footage").mkdir()
    out = Opened(tmp_path / "out")
    out.path.mkdir()
    write_failures(out.failures_file, [Failure("old", "decode", "E", "broken")])
    for failures in ((Failure("new", "decode", "E", "broken"),), ()):
        done = Drifted(found, failures)
        monkeypatch.setattr(drift_cli, "_scored", lambda *_, done=done: done)
        called = run(str(tmp_path / "footage"), "-o", str(out.path), "--json")
        assert called.exit_code == 4
        ids = [failure.video_id for failure in failures]
        assert pq.read_table(out.failures_file)["video_id"].to_pylist() == ids
        assert [f["video_id"] for f in json.loads(called.stdout)["failures"]] == ids


@pytest.mark.parametrize("kept", [False, True])
def test_failures_are_in_a_file_that_stays_or_are_all_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    failures = tuple(Failure(f"v{n}", "decode", "E", f"broken {n % 2}") for n in range(30))
    found = drift_of(folder(tmp_path / "s", {"gate-2": 0.0, "yard-2": 0.0}))
    monkeypatch.setattr(ModelFolder, "find", classmethod(lambda *_: ModelFolder(tmp_path)))
    monkeypatch.setattr(drift_cli, "open_target", lambda *_: None)
    monkeypatch.setattr(drift_cli, "_scored", lambda *_: Drifted(found, failures))
    (tmp_path / "footage").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    done = run(str(tmp_path / "footage"), *(["-o", str(out)] if kept else []))
    assert done.exit_code == 3
    if kept:
        assert f"30 failed; all are in {out}" in done.output
        assert len(pq.read_table(Opened(out).failures_file)) == 30
    else:
        assert "30 failed:" in done.output and "parquet" not in done.output
        assert all(f"  {f.video_id}: decode: E: {f.message}\n" in done.output for f in failures)


def test_footage_that_is_labelled_abnormal_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def score(model: Path, listed: Manifest, probed: Probed, out: Path, *_: Any, **__: Any) -> Any:
        seen.extend(record.video_id for record in listed.records)
        folder(out, {"gate-2": 0.0, "yard-2": 0.0})

        class Done:
            failures = ()

        return Done()

    monkeypatch.setattr(drift_module, "score_footage", score)
    rows = held_out({"gate-1": "gate"})
    monkeypatch.setattr(ModelFolder, "held_out", lambda self: rows)
    records = (
        VideoRecord(video_id="a", path="a", split="test"),
        VideoRecord(video_id="b", path="b", split="test", label=1),
        VideoRecord(video_id="c", path="c", split="test", anomalies=((1, 2),)),
        VideoRecord(video_id="d", path="d", split="test", label=0, anomalies=()),
    )
    listed = Manifest(dataset="yard", root="/", records=records)
    done = find_drift(tmp_path, listed, Probed({}), tmp_path / "out", tmp_path)
    assert seen == ["a", "d"] and {c.state for c in done.drift.cameras} == {"same"}
    bad = listed.model_copy(update={"records": records[1:3]})
    with pytest.raises(DriftError, match="all of the footage is labelled abnormal"):
        find_drift(tmp_path, bad, Probed({}), tmp_path / "out2", tmp_path)
    bare = held_out({"gate-1": "gate"}, rates=False)
    monkeypatch.setattr(ModelFolder, "held_out", lambda self: bare)
    with pytest.raises(DriftError, match="train it again with --force"):
        find_drift(tmp_path, listed, Probed({}), tmp_path / "out3", tmp_path)


@given(
    first=st.integers(0, 20),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    spans=st.lists(st.tuples(st.integers(0, 90), st.integers(1, 40)), max_size=4),
)
@settings(max_examples=100, deadline=None)
def test_runs_without_some_frames_are_those_of_the_other_frames(
    first: int, lengths: list[int], spans: list[tuple[int, int]]
) -> None:
    values = np.arange(len(lengths), dtype=float)
    frames = np.repeat(values, lengths)
    keep = np.ones(len(frames), bool)
    for a, n in spans:
        keep[max(a - first, 0) : max(a + n - first, 0)] = False
    ranges = [(a, a + n) for a, n in spans]
    found = _without(first, np.array(lengths), values, ranges)
    np.testing.assert_array_equal(np.repeat(found[1], found[0]), frames[keep])


def test_labelled_frames_of_a_score_folder_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = folder(tmp_path / "s", {"gate-2": 2.0, "yard-2": 0.0})
    records = (
        VideoRecord(video_id="gate-2", path="c", split="test", anomalies=((0, ROWS * STEP),)),
        VideoRecord(video_id="yard-2", path="a", split="test", label=0, anomalies=()),
    )
    write_manifest(Manifest(dataset="yard", root="/", records=records), tmp_path / "m.parquet")
    monkeypatch.setattr(ModelFolder, "find", classmethod(lambda *_: ModelFolder(tmp_path)))
    monkeypatch.setattr(ModelFolder, "card", lambda self: {"key": "k"})
    words = str(opened.path), "--labels", str(tmp_path / "m.parquet")
    assert run(words[0]).exit_code == 4
    done = run(*words)
    assert done.exit_code == 5, "nothing else is there of the gate"
    assert "camera gate: cannot tell" in done.output and "yard: no difference" in done.output
    (tmp_path / "footage").mkdir()
    assert run(str(tmp_path / "footage"), *words[1:]).exit_code == 2


def test_a_folder_without_held_out_rows_says_so(tmp_path: Path) -> None:
    opened = folder(tmp_path / "s", {"gate-2": 0.0}, rates=False)
    assert drift_of(opened) is None
    with pytest.raises(DriftError, match="train the model again with --force"):
        compared(opened)


def test_pages_say_it_for_cameras_with_enough_footage(tmp_path: Path) -> None:
    from tests.pipeline.review.test_data import values_of
    from vadpipe.pipeline.report.stage import write_report
    from vadpipe.pipeline.review.stage import write_review

    opened = folder(tmp_path / "s", {"gate-2": 0.0, "yard-2": 1.5, "new-1": 0.0})
    page = write_report(opened.path, max_videos=0, max_events=0).read_text(encoding="utf-8")
    assert "camera yard: the scores have moved" in page and "camera gate: no difference" in page
    assert "camera new" not in page
    out = write_review(opened.path, limits=Limits(pictures=0, clips=0))
    _, values = values_of((out.parent / "data" / "page.js").read_text(encoding="utf-8"))
    drift = [note for note in values["notes"] if note.startswith("Drift: ")]
    assert [note[:20] for note in drift[:-1]] == ["Drift: camera gate: ", "Drift: camera yard: "]
    caveat = "All scored footage counts, with its events: vadpipe drift compares normal footage"
    assert caveat in page and drift[-1].startswith(f"Drift: {caveat}")
    records = (VideoRecord(video_id="yard-2", path="y", split="test", label=1),)
    listed = Manifest(dataset="yard", root="/", records=records)
    page = write_report(opened.path, manifest=listed, max_videos=0, max_events=0).read_text("utf-8")
    assert "camera gate: no difference" in page and "camera yard" not in page
    assert "its events, but for frames that are labelled abnormal: " in page
    short = folder(tmp_path / "short", {"gate-2": 0.0}, rates=False)
    page = write_report(short.path, max_videos=0, max_events=0).read_text(encoding="utf-8")
    assert "Scores now and at training" not in page
