"""Smoothing: closed forms, edges, gaps, what changes nothing, and thresholds that fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.score_folders import rows, write_score_folder
from vadpipe.data_manifests.record import Manifest, VideoRecord
from vadpipe.pipeline.evaluate import evaluate_scores
from vadpipe.pipeline.scores.events import Calibration, EventConfig
from vadpipe.pipeline.scores.folder import ScoreFolder
from vadpipe.pipeline.scores.frames import MetricsError
from vadpipe.pipeline.scores.held_out import HeldOut
from vadpipe.pipeline.scores.smoothed import calibrated, measured_threshold
from vadpipe.pipeline.scores.smoothing import (
    RAW,
    SmoothError,
    Smoothing,
    smooth_held_out,
    smooth_rows,
)

FPS = 25.0


def how(text: str) -> Smoothing:
    return Smoothing.model_validate(text)


def smooth(score, text, first=None, length=1, fps=FPS):
    start = np.arange(len(score)) if first is None else np.asarray(first)
    return smooth_rows(start, start + length, score, fps, how(text))


@pytest.mark.parametrize(
    ("text", "kind", "frames", "name"),
    [
        ("gaussian:0.5s", "gaussian", 12.5, "gaussian:0.5s"),
        ("gaussian:2", "gaussian", 2, "gaussian:2"),
        ("median:9f", "median", 9, "median:9"),
        (" median:1e1 ", "median", 10, "median:10"),
    ],
)
def test_as_text(text, kind, frames, name):
    found = how(text)
    assert (found.kind, found.frames(FPS), found.text) == (kind, frames, name)
    assert how(found.text) == found


@pytest.mark.parametrize("text", ["gaussian", "gaussian:", "mean:3", "median:0", "median:-1", "x"])
def test_what_is_no_smoothing(text):
    with pytest.raises(ValidationError):
        how(text)


# --- closed forms ----------------------------------------------------------------------------


def test_an_impulse_becomes_a_gaussian():
    score = np.zeros(41)
    score[20] = 1
    weight = np.exp(-0.5 * (np.arange(-8, 9) / 2) ** 2)
    expected = np.zeros(41)
    expected[12:29] = weight / weight.sum()
    np.testing.assert_allclose(smooth(score, "gaussian:2"), expected, rtol=1e-12, atol=0)


def test_at_an_edge_the_rows_that_are_there_share_the_weight():
    near = np.exp(-0.5)
    expected = [near / (1 + near), 1 / (1 + near)]
    np.testing.assert_allclose(smooth([0.0, 1.0], "gaussian:1"), expected, rtol=1e-15)
    assert smooth([5.0, 0.0, 1.0], "median:3").tolist() == [2.5, 1.0, 0.5]


def test_a_median_takes_an_odd_number_of_even_rows():
    score = np.array([0, 9, 0, 0, 8, 8, 8, 0, 7], float)
    assert smooth(score, "median:3").tolist()[1:-1] == [0, 0, 0, 8, 8, 8, 7]
    assert np.array_equal(smooth(score, "median:4"), smooth(score, "median:3"))
    first = 16 * np.arange(9)  # snippets: 48 frames are three rows
    assert np.array_equal(smooth(score, "median:48", first, 16), smooth(score, "median:3"))
    assert np.array_equal(smooth(score, "median:16", first, 16), score)


def test_seconds_are_frames_by_the_rate():
    score = np.random.default_rng(0).normal(size=50)
    assert np.array_equal(smooth(score, "gaussian:0.2s"), smooth(score, "gaussian:5"))
    assert np.array_equal(smooth(score, "median:0.2s", fps=50), smooth(score, "median:10"))
    with pytest.raises(SmoothError, match="in frames"):
        smooth(score, "median:1s", fps=0)


def test_a_gap_has_no_weight():
    """Rows beyond a gap count by their distance, what lies in it does not."""
    far = np.exp(-0.5 * 9)
    found = smooth([1.0, 0.0], "gaussian:1", first=[0, 3])
    np.testing.assert_allclose(found, [1 / (1 + far), far / (1 + far)], rtol=1e-12)
    assert smooth([1.0, 0.0], "gaussian:1", first=[0, 5]).tolist() == [1.0, 0.0]


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(MetricsError, match="not finite"):
        smooth([0.0, np.nan], "median:3")


# --- what changes nothing --------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=15),
    st.sampled_from(["gaussian:3", "gaussian:0.1s", "median:7", "median:0.3s"]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_time_its_direction_order_and_units(starts, text, draw):
    first = np.array(starts)
    score = np.array([draw.uniform(-5, 5) for _ in starts])
    found = smooth(score, text, first, 4)
    assert score.min() <= found.min() and found.max() <= score.max()
    order = np.array(draw.sample(range(len(starts)), len(starts)))
    np.testing.assert_allclose(smooth(score[order], text, first[order], 4), found[order], atol=1e-9)
    np.testing.assert_allclose(smooth(score, text, first + 1000, 4), found, atol=1e-9)
    np.testing.assert_allclose(smooth(score, text, 100 - first, 4), found, atol=1e-9)
    np.testing.assert_allclose(smooth(3 - 2 * score, text, first, 4), 3 - 2 * found, atol=1e-9)
    assert set(smooth(np.full(len(starts), 0.1), text, first, 4)) == {0.1}


@pytest.mark.parametrize("text", ["gaussian:1e-9", "median:1e-9"])
def test_no_width_is_no_smoothing(text):
    score = np.random.default_rng(1).normal(size=30)
    assert np.array_equal(smooth(score, text), score)


# --- thresholds ------------------------------------------------------------------------------

NORMAL = {f"n{i}": rows(np.random.default_rng(i).normal(size=60)) for i in range(6)}


def held_out(fps: float | None = FPS) -> HeldOut:
    rates = None if fps is None else dict.fromkeys(NORMAL, fps)
    return HeldOut.from_scores(list(NORMAL), list(NORMAL.values()), rates)


@pytest.mark.parametrize("text", ["gaussian:16", "median:0.96s"])
def test_held_out_rows_are_smoothed_video_by_video(text, tmp_path: Path):
    held_out().write(tmp_path / "h.parquet")  # rates are kept in the file
    read = HeldOut.read(tmp_path / "h.parquet")
    assert read is not None
    found = smooth_held_out(read, how(text), keep_raw=True)
    for video_id, each in NORMAL.items():
        expected = smooth_rows(
            each.frame_start, each.frame_stop, each.columns["score"], FPS, how(text)
        )
        assert np.array_equal(found.of_video(video_id).values("score"), expected)
        assert np.array_equal(found.of_video(video_id).values(RAW), each.columns["score"])


def test_the_threshold_is_that_of_smoothed_scores():
    raw = Calibration.from_scores([e.columns["score"] for e in NORMAL.values()], method="m")
    card = {"calibration": raw.to_json()}
    plain, same = calibrated(held_out(), card, EventConfig(), None)
    assert plain.high.value == raw.threshold(0.99).value
    assert same is not None and RAW not in same.columns
    smoothed, rows_of = calibrated(held_out(), card, EventConfig(), how("gaussian:24"))
    assert rows_of is not None and rows_of.columns == ("score", RAW)
    assert smoothed.high.value < plain.high.value
    share = np.mean(rows_of.values("score") > smoothed.high.value)
    assert share <= 0.01, "the alarm rate that it promises"
    with pytest.raises(SmoothError, match="no held-out rows"):
        calibrated(None, card, EventConfig(), how("median:3"))
    with pytest.raises(SmoothError, match=r"frame rate of n0, n1, .*--force"):
        calibrated(held_out(None), card, EventConfig(), how("median:3s"))
    assert calibrated(held_out(None), card, EventConfig(), how("median:3"))


# --- score folders ---------------------------------------------------------------------------

SCORES = {"v": rows(np.random.default_rng(9).normal(size=40).cumsum()), "w": rows([1.0, 5.0, 2.0])}
LABELS = Manifest(
    dataset="tiny",
    root="/none",
    records=(
        VideoRecord(video_id="v", path="v.mp4", split="test", anomalies=((80, 200),)),
        VideoRecord(video_id="w", path="w.mp4", split="test", anomalies=()),
    ),
)


def test_a_part_is_smoothed_again_from_its_raw_scores(tmp_path: Path):
    folder = write_score_folder(tmp_path / "s", SCORES, NORMAL)
    before = folder.scores("v")
    for text in ("gaussian:16", "gaussian:16", "median:24"):
        folder.smooth("v", how(text))
        part = folder.scores("v")
        each = SCORES["v"]
        expected = smooth_rows(
            each.frame_start, each.frame_stop, each.columns["score"], FPS, how(text)
        )
        assert np.array_equal(part["score"].to_numpy(), expected)
        assert part[RAW].to_pylist() == before["score"].to_pylist()
        assert folder.stamp("v") == "stamp v", "the detector is not asked again"
    folder.smooth("v", None)
    assert folder.scores("v").equals(before, check_metadata=True)


def test_smoothing_while_measuring_is_measuring_what_was_smoothed(tmp_path: Path):
    text = "gaussian:16"
    folder = write_score_folder(tmp_path / "s", SCORES, NORMAL)
    done = evaluate_scores(folder.path, LABELS, replicates=0, smooth=how(text))
    assert done.smooth == text == done.to_json()["smooth"]
    plain = evaluate_scores(folder.path, LABELS, replicates=0)
    assert plain.smooth is None and "smooth" not in plain.to_json()
    assert done.metrics.micro_auc != plain.metrics.micro_auc
    for video_id in SCORES:
        folder.smooth(video_id, how(text))
    folder.write_held_out(smooth_held_out(held_out(), how(text), keep_raw=True))
    run, limit = folder.run(), measured_threshold(folder, RAW, how(text))
    assert limit is not None and limit.rule == run["threshold"]["rule"]
    stated = {**run["threshold"], "high": limit.value}
    folder.write_run({**run, "smooth": text, "threshold": stated})
    again = evaluate_scores(folder.path, LABELS, replicates=0)
    # Events are of the scores of a run: of those that are smoothed as they are measured are none.
    assert done.metrics.events is None and again.metrics.events is not None
    assert again.smooth == text
    assert again.metrics.model_copy(update={"events": None}) == done.metrics
    raw = evaluate_scores(folder.path, LABELS, replicates=0, column=RAW)
    assert raw.smooth is None and raw.metrics.micro_auc == plain.metrics.micro_auc
    with pytest.raises(SmoothError, match="are smoothed by gaussian:16: measure the column 'raw'"):
        evaluate_scores(folder.path, LABELS, smooth=how("median:3"))
    twice = evaluate_scores(folder.path, LABELS, replicates=0, smooth=how(text), column=RAW)
    assert twice.metrics.micro_auc == done.metrics.micro_auc
    assert ScoreFolder(folder.path).metrics(RAW)["smooth"] == text
