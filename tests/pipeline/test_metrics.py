"""Frame-level metrics: slow oracles, the closed form of padding, and the recorded reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from vadpipe.pipeline.metrics import (
    FrameMetrics,
    LabelledScores,
    MetricsError,
    expand_to_frames,
    frame_metrics,
    thin_curve,
)


def slow_expand(windows, start, stop):
    """The definition, frame by frame."""
    covering = [[s for a, b, s in windows if a <= frame < b] for frame in range(start, stop)]
    covered = [frame for frame, scores in enumerate(covering) if scores]
    return np.array(
        [
            np.mean(covering[min(covered, key=lambda c: (abs(c - frame), c))])
            for frame in range(stop - start)
        ]
    )


def pair_auc(label, score):
    """Share of (abnormal, normal) pairs in the right order; a tie counts half."""
    above = score[label == 1][:, None] - score[label == 0][None, :]
    return float((np.sign(above) + 1).mean() / 2)


window = st.tuples(
    st.integers(-5, 40), st.integers(1, 20), st.floats(-1e3, 1e3, allow_subnormal=False)
)


@given(st.lists(window, min_size=1, max_size=12), st.integers(-5, 40), st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_expansion_equals_the_definition(windows, start, length):
    windows = [(a, a + n, s) for a, n, s in windows]
    first, last, score = (np.array(column) for column in zip(*windows, strict=True))
    stop = start + length
    if not any(a < stop and b > start for a, b, _ in windows):
        with pytest.raises(MetricsError, match="no score covers"):
            expand_to_frames(first, last, score, start, stop)
        return
    frames = expand_to_frames(first, last, score, start, stop)
    assert frames.dtype == np.float64
    np.testing.assert_allclose(frames, slow_expand(windows, start, stop), rtol=1e-12, atol=1e-9)


def test_uncovered_frames_take_the_nearest_covered_one():
    frames = expand_to_frames([2, 7], [4, 8], [1.0, 2.0], 0, 10)
    #                 0  1  2  3  4  5  6  7  8  9; 5 is as near to 3 as to 7: the earlier wins
    assert frames.tolist() == [1, 1, 1, 1, 1, 1, 2, 2, 2, 2]


def test_windows_that_do_not_overlap_are_repeated_bit_by_bit():
    score = np.random.default_rng(0).normal(size=5000) * 10.0 ** np.arange(5000 // 1000).repeat(
        1000
    )
    start = np.arange(5000) * 16
    order = np.random.default_rng(1).permutation(5000)
    frames = expand_to_frames(start[order], start[order] + 16, score[order], 0, 80_000)
    assert np.array_equal(frames, score.repeat(16))


def test_equal_scores_stay_equal_under_overlap():
    start = np.arange(1000)
    frames = expand_to_frames(start, start + 16, np.full(1000, 0.1), 0, 1015)
    assert (frames == 0.1).all()


def test_a_day_of_overlapping_windows_stays_exact():
    n = 500_000
    score = np.random.default_rng(2).lognormal(sigma=2, size=n)
    start = np.arange(n) * 4
    frames = expand_to_frames(start, start + 16, score, 0, 4 * n + 12)
    rows = (np.array([n // 2, n - 5])[:, None] - np.arange(4)).T  # the four windows over a frame
    expected = score[rows].mean(axis=0)
    np.testing.assert_allclose(frames[start[[n // 2, n - 5]]], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 4], [4], [1.0], 0, 4), "one length"),
        (([0], [4], [float("nan")], 0, 4), "not finite"),
        (([4], [4], [1.0], 0, 4), "a window is empty"),
        (([0], [4], [1.0], 3, 3), "is empty"),
        (([], [], [], 0, 4), "no score covers"),
    ],
)
def test_expansion_refuses_nonsense(arguments, message):
    with pytest.raises(MetricsError, match=message):
        expand_to_frames(*arguments)


def random_videos(seed, sizes, *, scale=1.0, shift=0.0, decimals=None):
    rng = np.random.default_rng(seed)
    videos = []
    for number, (normal, abnormal) in enumerate(sizes):
        label = rng.permutation(np.repeat([0, 1], [normal, abnormal]))
        score = rng.uniform(0.01, 0.9, normal + abnormal) + 0.05 * label
        if decimals is not None:
            score = score.round(decimals)
        videos.append(LabelledScores(f"v{number}", score * scale + shift, label))
    return videos


SIZES = [(50, 30), (1, 1), (20, 0), (0, 15), (7, 60)]


@pytest.mark.parametrize("decimals", [None, 1])
def test_aucs_equal_the_share_of_ordered_pairs(decimals):
    videos = random_videos(3, SIZES, decimals=decimals)
    got = frame_metrics(videos)
    label = np.concatenate([v.label for v in videos])
    score = np.concatenate([v.score for v in videos])
    assert got.micro_auc == pytest.approx(pair_auc(label, score), abs=1e-12)
    each = [pair_auc(v.label, v.score) for v in videos if 0 < v.label.sum() < len(v.label)]
    assert got.macro_auc_valid == pytest.approx(np.mean(each), abs=1e-12)
    assert got.n_valid == 3
    assert [row.auc is None for row in got.videos] == [False, False, True, True, False]
    assert got.score_gap == pytest.approx(score[label == 1].mean() - score[label == 0].mean())
    assert (got.n_videos, got.n_frames, got.n_abnormal) == (5, 184, 106)
    assert [row.n_abnormal for row in got.videos] == [30, 1, 0, 15, 60]


def test_padded_auc_follows_the_closed_form():
    got = frame_metrics(random_videos(4, SIZES))
    for row, (n0, n1) in zip(got.videos, SIZES, strict=True):
        plain = 0.0 if row.auc is None else n0 * n1 * row.auc  # n0 * n1 is 0 for one class
        closed = (plain + n0 + n1 + 1) / ((n0 + 1) * (n1 + 1))
        assert row.auc_padded == pytest.approx(closed, abs=1e-12)
    assert [row.auc_padded for row in got.videos[2:4]] == [1.0, 1.0]
    assert got.macro_auc_padded == pytest.approx(np.mean([row.auc_padded for row in got.videos]))


@pytest.mark.parametrize(("scale", "shift"), [(100.0, 0.0), (1.0, -5.0), (1e19, 0.0), (1e-9, 3.0)])
def test_extreme_padding_does_not_see_the_scale_of_the_scores(scale, shift):
    plain = frame_metrics(random_videos(5, SIZES, decimals=3))
    moved = frame_metrics(random_videos(5, SIZES, decimals=3, scale=scale, shift=shift))
    for name in ("micro_auc", "macro_auc_padded", "macro_auc_valid", "average_precision", "pr_auc"):
        assert getattr(moved, name) == pytest.approx(getattr(plain, name), abs=1e-12)
    assert moved.score_gap == pytest.approx(plain.score_gap * scale, rel=1e-6)


def test_average_precision_and_pr_auc_of_four_frames():
    video = LabelledScores("v", np.array([4.0, 3.0, 2.0, 1.0]), np.array([1, 0, 1, 0]))
    got = frame_metrics([video])
    # Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    assert got.average_precision == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert got.pr_auc == pytest.approx(1 / 2 * 1 + 1 / 2 * (1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize(("label", "word"), [(0, "normal"), (1, "abnormal")])
def test_one_class_gives_a_reason_and_no_number(label, word, recwarn):
    videos = [LabelledScores("a", np.array([0.2, 0.4]), np.array([label] * 2))]
    got = frame_metrics(videos)
    for name in ("micro_auc", "average_precision", "pr_auc", "score_gap"):
        assert getattr(got, name) is None
        assert got.undefined[name] == f"all 2 frames are {word}"
    assert got.macro_auc_valid is None and "macro_auc_valid" in got.undefined
    assert got.roc is None and got.macro_auc_padded == 1.0
    assert not recwarn.list
    assert FrameMetrics.from_json(got.to_json()) == got


def test_json_keeps_everything_and_is_strict():
    got = frame_metrics(random_videos(6, SIZES))
    text = json.dumps(got.to_json(), allow_nan=False)
    assert FrameMetrics.from_json({**json.loads(text), "further": 1}) == got
    with pytest.raises(MetricsError, match="micro_auc"):
        FrameMetrics.from_json({k: v for k, v in json.loads(text).items() if k != "micro_auc"})


def test_bad_input_names_the_video():
    with pytest.raises(MetricsError, match="no labelled scores"):
        frame_metrics([])
    video = LabelledScores("cam7", np.array([0.0, 1.0]), np.array([0, 1]))
    with pytest.raises(MetricsError, match="cam7"):
        frame_metrics([video, video])
    for score, label in (([0.1], [0, 1]), ([], []), ([np.nan], [0]), ([0.1], [2])):
        with pytest.raises(MetricsError, match="cam7"):
            LabelledScores("cam7", np.array(score), np.array(label))


@given(st.integers(0, 2**32 - 1), st.integers(2, 3000), st.integers(2, 200))
@settings(max_examples=50, deadline=None)
def test_a_thinned_curve_stays_close(seed, n, limit):
    rng = np.random.default_rng(seed)
    steps = rng.lognormal(sigma=2, size=(2, n - 1)) * (rng.random((2, n - 1)) < 0.5)
    x, y = np.concatenate([np.zeros((2, 1)), np.cumsum(steps, axis=1)], axis=1)
    x, y = x / max(x[-1], 1e-9), y / max(y[-1], 1e-9)
    thin_x, thin_y = thin_curve(x, y, limit)
    assert len(thin_x) <= limit
    assert (thin_x[[0, -1]] == x[[0, -1]]).all() and (thin_y[[0, -1]] == y[[0, -1]]).all()
    # x - y as a function of x + y describes a curve that never falls.
    drawn = np.interp(x + y, thin_x + thin_y, thin_x - thin_y)
    assert np.abs(drawn - (x - y)).max() <= 2 * 2 / (limit - 1) + 1e-9


def test_the_roc_of_many_frames_is_small_and_keeps_its_area():
    rng = np.random.default_rng(7)
    label = (rng.random(60_000) < 0.2).astype(int)
    got = frame_metrics([LabelledScores("v", rng.normal(size=60_000) + label, label)])
    assert len(got.roc.fpr) <= 1000
    assert np.trapezoid(got.roc.tpr, got.roc.fpr) == pytest.approx(got.micro_auc, abs=1e-3)
    assert (got.roc.fpr[0], got.roc.tpr[0], got.roc.fpr[-1], got.roc.tpr[-1]) == (0, 0, 1, 1)


@pytest.mark.data
@pytest.mark.parametrize("case", ["unit_scores", "quantised_scores", "unbounded_scores"])
def test_golden_parity(shared: Path, case: str):
    golden = np.load(shared / "golden" / "open" / "g09_auc.npz")

    def recorded(name):
        return golden[f"{case}.{name}"]

    ends = np.cumsum(recorded("lengths"))[:-1]
    scores, labels = (np.split(recorded(name), ends) for name in ("scores", "labels"))
    videos = [
        LabelledScores(f"v{i}", s, y) for i, (s, y) in enumerate(zip(scores, labels, strict=True))
    ]
    got = frame_metrics(videos, padding="literal")
    for ours, theirs in (
        (got.micro_auc, "micro"),
        (got.micro_auc, "sk_roc_auc_score"),
        (got.micro_auc, "sk_auc_of_roc_curve"),
        (got.macro_auc_padded, "macro_padded"),
        (got.macro_auc_valid, "macro_valid"),
        (got.pr_auc, "sk_pr_auc_trapezoid"),
        (got.average_precision, "sk_average_precision"),
    ):
        assert ours == pytest.approx(float(recorded(theirs)), abs=1e-9), theirs
    assert got.n_valid == int(recorded("n_valid"))
    np.testing.assert_allclose(
        [row.auc_padded for row in got.videos], recorded("per_video_padded"), rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(
        [np.nan if row.auc is None else row.auc for row in got.videos],
        recorded("per_video_plain_nan_if_one_class"),
        rtol=0,
        atol=1e-9,
    )
    extreme = frame_metrics(videos)
    if case == "unbounded_scores":
        assert extreme.macro_auc_padded > got.macro_auc_padded + 0.05
    else:
        assert extreme.macro_auc_padded == got.macro_auc_padded
    assert roc_auc_score(recorded("labels").repeat(16), recorded("scores").repeat(16)) == (
        pytest.approx(float(recorded("micro_of_repeat16")), abs=1e-9)
    )
