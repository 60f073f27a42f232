"""Frame-level metrics: slow oracles, the closed form of padding, and the recorded reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from vadpipe.pipeline.metrics.frame_level import (
    LabelledScores,
    VideoCounts,
    frame_metrics,
    micro_auc,
    thin_curve,
)
from vadpipe.pipeline.metrics.results import FrameMetrics
from vadpipe.pipeline.scores.frames import MetricsError, expand_to_frames


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


def test_bad_input_names_the_video():
    with pytest.raises(MetricsError, match="no labelled scores"):
        frame_metrics([])
    video = LabelledScores("cam7", np.array([0.0, 1.0]), np.array([0, 1]))
    with pytest.raises(MetricsError, match="cam7"):
        frame_metrics([video, video])
    for score, label in (([0.1], [0, 1]), ([], []), ([np.nan], [0]), ([0.1], [2])):
        with pytest.raises(MetricsError, match="cam7"):
            LabelledScores("cam7", np.array(score), np.array(label))


def concatenated(videos, times):
    """Micro AUC and AP of a choice of videos by the definition: write all frames in one list."""
    chosen = [v for v, n in zip(videos, times, strict=True) for _ in range(n)]
    label = np.concatenate([v.label for v in chosen] or [[]])
    if len(set(label.tolist())) < 2:
        return np.nan, np.nan
    score = np.concatenate([v.score for v in chosen])
    return roc_auc_score(label, score), average_precision_score(label, score)


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0, 1, 2]), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_any_choice_of_videos_is_measured_as_if_its_frames_were_concatenated(seed, decimals, n):
    rng = np.random.default_rng(seed)
    sizes = [tuple(pair) for pair in rng.integers(0, 8, (n, 2)) if pair.any()] or [(1, 2)]
    videos = random_videos(seed, sizes, decimals=decimals, scale=10.0, shift=-3.0)
    times = rng.integers(0, 4, (len(videos), 5))
    expected = np.array([concatenated(videos, column) for column in times.T]).T
    got = VideoCounts(videos).areas(times)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_many_choices_do_not_depend_on_how_they_are_cut(monkeypatch: pytest.MonkeyPatch):
    videos = random_videos(8, SIZES, decimals=2)
    times = np.random.default_rng(9).integers(0, 4, (len(videos), 50))
    whole = VideoCounts(videos).areas(times)
    monkeypatch.setattr("vadpipe.pipeline.metrics.frame_level.CELLS", 700)
    np.testing.assert_array_equal(VideoCounts(videos).areas(times), whole)


def test_the_bootstrap_draws_videos_of_each_kind_and_takes_percentiles():
    videos = random_videos(10, [(30, 10), (40, 5), (25, 0), (60, 0), (35, 0), (9, 20)], decimals=2)
    got = frame_metrics(videos, replicates=300, seed=4).bootstrap
    rng = np.random.default_rng(4)
    abnormal, normal = [0, 1, 5], [2, 3, 4]
    times = np.zeros((300, 6), dtype=int)
    for kind in (abnormal, normal):
        times[:, kind] = rng.multinomial(3, [1 / 3] * 3, size=300)
    assert (times[:, abnormal].sum(axis=1) == 3).all() and (times[:, normal].sum(axis=1) == 3).all()
    each = np.array([concatenated(videos, row) for row in times])
    low, high = np.percentile(each, [2.5, 97.5], axis=0)
    np.testing.assert_allclose([got.micro_auc, got.average_precision], np.stack([low, high], 1))
    assert (got.replicates, got.seed, got.level, got.n_undefined) == (300, 4, 0.95, 0)
    assert (got.n_abnormal_videos, got.n_normal_videos) == (3, 3)
    again = frame_metrics(videos, replicates=300, seed=4).bootstrap
    other = frame_metrics(videos, replicates=300, seed=5).bootstrap
    assert again == got and other != got


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_identical_videos_have_intervals_of_no_width(seed, normal, copies):
    (one,) = random_videos(seed, [(normal, 3)], decimals=1)
    videos = [replace(one, video_id=f"v{i}") for i in range(copies)]
    got = frame_metrics(videos, replicates=50)
    assert got.bootstrap.micro_auc == pytest.approx((got.micro_auc,) * 2, abs=1e-12)
    assert got.bootstrap.micro_auc[0] == got.bootstrap.micro_auc[1]
    assert got.bootstrap.average_precision == pytest.approx((got.average_precision,) * 2, abs=1e-12)
    assert got.bootstrap.average_precision[0] == got.bootstrap.average_precision[1]


def test_a_bootstrap_that_says_nothing_is_left_out_with_a_reason():
    for sizes, why in (([(5, 5)], "too few"), ([(5, 5), (4, 0)], "too few"), ([(3, 0)] * 3, "all")):
        got = frame_metrics(random_videos(11, sizes), replicates=20)
        assert got.bootstrap is None and why in got.undefined["bootstrap"], sizes
    assert "bootstrap" not in frame_metrics(random_videos(11, [(5, 5)])).undefined
    # Only one video has normal frames: replicates without it are counted and left out.
    sizes = [(6, 6), (0, 4), (0, 5), (0, 6)]
    got = frame_metrics(random_videos(12, sizes), replicates=400).bootstrap
    assert 400 * 0.2 < got.n_undefined < 400 * 0.45  # (3/4)^4 = 0.32
    even = [1 / 4] * 4
    without = next(s for s in range(99) if not np.random.default_rng(s).multinomial(4, even)[0])
    one = frame_metrics(random_videos(12, sizes), replicates=1, seed=without)
    assert one.bootstrap is None and "none of 1 replicates" in one.undefined["bootstrap"]


def test_a_category_is_its_abnormal_videos_with_all_normal_ones():
    sizes = [(30, 10), (40, 5), (25, 0), (60, 0), (9, 20), (0, 7)]
    videos = random_videos(13, sizes, decimals=2)
    names = ["Fighting", "Arson", "Normal", None, "Arson+Fighting", None]
    videos = [replace(v, category=c) for v, c in zip(videos, names, strict=True)]
    got = frame_metrics(videos)
    assert [row.category for row in got.videos] == names
    assert [c.category for c in got.categories] == ["Arson", "Fighting"]
    for found, times, frames, abnormal in (
        (got.categories[0], [0, 1, 1, 1, 1, 0], 45 + 29, 5 + 20),
        (got.categories[1], [1, 0, 1, 1, 1, 0], 40 + 29, 10 + 20),
    ):
        expected = concatenated(videos, times)
        assert (found.micro_auc, found.average_precision) == pytest.approx(expected, abs=1e-12)
        assert (found.n_videos, found.n_frames, found.n_abnormal) == (2, frames, abnormal)
    only = concatenated(videos, [1, 1, 0, 0, 1, 1])[0]
    assert got.abnormal_videos_auc == pytest.approx(only, abs=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_only_category_equals_the_total(seed):
    videos = [replace(v, category="X") for v in random_videos(seed, SIZES, decimals=1)]
    got = frame_metrics(videos)
    (only,) = got.categories
    assert only.micro_auc == pytest.approx(got.micro_auc, abs=1e-12)
    assert only.average_precision == pytest.approx(got.average_precision, abs=1e-12)
    assert only.n_videos == 4 and only.n_abnormal == got.n_abnormal
    assert micro_auc(videos) == pytest.approx(got.micro_auc, abs=1e-12)


def test_categories_without_two_classes_have_no_number():
    video = replace(random_videos(14, [(0, 5)])[0], category="X")
    got = frame_metrics([video])
    assert got.categories[0].micro_auc is None and got.categories[0].average_precision is None
    assert got.abnormal_videos_auc is None and micro_auc([video]) is None
    assert "no normal frames" in got.undefined["abnormal_videos_auc"]
    normal = frame_metrics(random_videos(14, [(5, 0)]))
    assert normal.categories == () and "abnormal" in normal.undefined["abnormal_videos_auc"]


def test_false_alarms_are_shares_of_normal_frames_strictly_above():
    videos = [
        LabelledScores("mixed", np.array([0.9, 0.9, 0.5, 0.1]), np.array([1, 0, 0, 0])),
        LabelledScores("normal", np.array([0.8, 0.5, 0.2, 0.1, 0.3]), np.zeros(5)),
    ]
    got = frame_metrics(videos, threshold=0.5).false_alarms
    assert got.rate_of_videos == 1 / 5 and got.rate == 2 / 8
    assert (got.n_videos, got.n_frames_of_videos, got.n_frames) == (1, 5, 8)
    assert frame_metrics(videos).false_alarms is None
    abnormal = frame_metrics([LabelledScores("a", np.ones(2), np.ones(2))], threshold=0.5)
    assert abnormal.false_alarms.rate is None and abnormal.false_alarms.rate_of_videos is None


def test_padding_is_ranked_but_counted_apart():
    plain = LabelledScores("v", np.array([0.1, 0.6, 0.4]), np.array([0, 0, 1]))
    label = np.array([0, 0, 1, 1, 1])
    padded = LabelledScores("v", np.append(plain.score, [0.4, 0.4]), label, n_padding=2)
    got = frame_metrics([padded], threshold=0.5)
    assert got.micro_auc == roc_auc_score(label, padded.score)
    assert (got.n_frames, got.n_abnormal, got.n_padding, got.n_padding_abnormal) == (3, 1, 2, 2)
    assert (got.videos[0].n_frames, got.videos[0].n_abnormal, got.videos[0].n_padding) == (3, 1, 2)
    assert got.false_alarms == frame_metrics([plain], threshold=0.5).false_alarms
    for count in (-1, 3):
        with pytest.raises(MetricsError, match="cannot be padding"):
            replace(plain, n_padding=count)


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
