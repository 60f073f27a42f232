"""WindowSource: uniform draws, pairs, negatives, the same after a resume, clear errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from tests.bags import ArrayRows
from vadpipe.detectors.base import DetectorError, FitOptions
from vadpipe.detectors.checkpoint import Checkpoint
from vadpipe.detectors.fitting import Fit
from vadpipe.detectors.row_memory import RowMemory
from vadpipe.detectors.windows import Picks, WindowSource

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=5)


def rows_of(lengths: Sequence[int], **more: Any) -> ArrayRows:
    """Row r of video v is (v, r)."""
    arrays = [np.array([(v, r) for r in range(n)], np.int64) for v, n in enumerate(lengths)]
    return ArrayRows([array.reshape(-1, 2) for array in arrays], **more)


def source(lengths: Sequence[int], length: int, **more: Any) -> WindowSource:
    rows = rows_of(lengths, scenes=more.pop("scenes", None))
    return WindowSource(RowMemory(rows, options=more.pop("options", None)), length, **more)


def listed(picks: Picks) -> list[tuple[int, int]]:
    return list(zip(picks.video.tolist(), picks.start.tolist(), strict=True))


def windows_of(lengths: Sequence[int], reach: int) -> list[tuple[int, int]]:
    return [(v, s) for v, n in enumerate(lengths) for s in range(n - reach + 1)]


def uniform(drawn: list[Any], possible: list[Any]) -> bool:
    """All of them are drawn, nothing else, and chi-square does not contradict equal chances."""
    counts = Counter(drawn)
    assert set(counts) == set(possible)
    if len(possible) == 1:
        return True
    return bool(chisquare([counts[each] for each in possible]).pvalue > 1e-8)


def as_likely_as(drawn: list[Any], possible: list[Any], chances: list[float]) -> bool:
    """All of them are drawn, nothing else, and chi-square does not contradict these chances."""
    counts = Counter(drawn)
    assert set(counts) == set(possible)
    found = [counts[each] for each in possible]
    expected = np.array(chances) * len(drawn)
    return bool(chisquare(found, expected).pvalue > 1e-8)


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, length=st.integers(1, 4), step=st.integers(1, 3), seed=st.integers(0, 99))
def test_draws_are_uniform_over_all_windows(
    lengths: list[int], length: int, step: int, seed: int
) -> None:
    reach = (length - 1) * step + 1
    possible = windows_of(lengths, reach)
    assume(possible)
    windows = source(lengths, length, step=step, seed=seed)
    assert len(windows) == len(possible) and windows.reach == reach
    drawn = windows.draw(40 * len(possible), 0)
    assert uniform(listed(drawn), possible)
    read = windows.read(drawn).numpy()
    assert read.shape == (len(drawn), length, 2)
    np.testing.assert_array_equal(read[..., 0], np.repeat(drawn.video[:, None], length, 1))
    np.testing.assert_array_equal(read[..., 1], drawn.start[:, None] + step * np.arange(length))


@settings(max_examples=40, deadline=None)
@given(
    lengths=LENGTHS,
    length=st.integers(1, 3),
    least=st.none() | st.integers(1, 4),
    more=st.none() | st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_pairs_have_the_chances_that_are_stated_and_are_as_far_apart_as_asked(
    lengths: list[int], length: int, least: int | None, more: int | None, seed: int
) -> None:
    low = length if least is None else least
    most = None if more is None else low + more
    single = windows_of(lengths, length)
    assume(single)
    possible = [
        (v, a, b)
        for (v, a), (w, b) in product(single, single)
        if v == w and low <= abs(a - b) <= (1000 if most is None else most)
    ]
    windows = source(lengths, length, seed=seed)
    if not possible:
        with pytest.raises(DetectorError, match=f"begin {low} rows apart: that takes"):
            windows.pairs(1, 0, least=least, most=most)
        return
    partners = Counter((v, a) for v, a, _ in possible)
    each = Counter(v for v, _ in partners)
    assert windows.with_partner(low).tolist() == [each[v] for v in range(len(lengths))]
    # one window is uniform, the other uniform among its partners, and either comes first
    chances = [
        (1 / partners[v, a] + 1 / partners[v, b]) / (2 * len(partners)) for v, a, b in possible
    ]
    assert sum(chances) == pytest.approx(1)
    count = int(40 / min(chances))
    first, second = windows.pairs(count, 0, least=least, most=most)
    np.testing.assert_array_equal(first.video, second.video)
    drawn = zip(first.video.tolist(), first.start.tolist(), second.start.tolist(), strict=True)
    assert as_likely_as(list(drawn), possible, chances)


def test_a_long_video_has_its_share_of_the_pairs() -> None:
    """Not the square of it: uniform over pairs, the long one would have nine in ten."""
    lengths = [30] * 20 + [400]
    windows = source(lengths, 3, seed=1)
    places = [n - 2 for n in lengths]
    share = places[-1] / sum(places)
    first, _ = windows.pairs(20_000, 0)
    counts = np.bincount(first.video, minlength=21)
    expected = np.array(places) / sum(places) * 20_000
    assert chisquare(counts, expected).pvalue > 1e-3
    assert share < 0.42 and counts[-1] < 0.45 * 20_000


@settings(max_examples=40, deadline=None)
@given(
    videos=st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from([None, "a", "b", "c"])),
        min_size=1,
        max_size=5,
    ),
    by=st.sampled_from(["scene", "video"]),
    seed=st.integers(0, 99),
)
def test_negatives_are_uniform_over_the_windows_of_other_groups(
    videos: list[tuple[int, str | None]], by: Any, seed: int
) -> None:
    lengths, scenes = [n for n, _ in videos], [scene for _, scene in videos]
    single = windows_of(lengths, 2)
    assume(single)
    group = (lambda v: scenes[v]) if by == "scene" else (lambda v: v)
    windows = source(lengths, 2, seed=seed, scenes=scenes)
    (pick,) = [single[seed % len(single)]]
    possible = [w for w in single if group(w[0]) != group(pick[0])]
    count = 40 * max(1, len(possible))
    picks = Picks(np.full(count, pick[0]), np.full(count, pick[1]))
    if not possible:
        with pytest.raises(DetectorError, match=f"are of one {by}"):
            windows.negatives(picks, 0, by=by)
        return
    found = windows.negatives(picks, 0, by=by)
    assert uniform(listed(found), possible)
    assert not windows.same(picks, found, by=by).any()


def test_same_scene_masks() -> None:
    windows = source([4, 4, 4, 4], 2, scenes=["a", None, "a", None])
    picks = Picks(np.arange(4), np.zeros(4, np.int64))
    assert windows.groups().tolist() == [0, 1, 0, 1]  # unnamed scenes may be the same
    assert windows.groups("video").tolist() == [0, 1, 2, 3]
    expected = np.equal.outer([0, 1, 0, 1], [0, 1, 0, 1])
    np.testing.assert_array_equal(windows.same(picks, picks), expected)
    np.testing.assert_array_equal(windows.same(picks, picks, by="video"), np.eye(4, dtype=bool))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), turns=st.permutations(range(6)))
def test_a_draw_depends_on_seed_and_turn_only(seed: int, turns: list[int]) -> None:
    """So a fit that goes on in another process draws what it would have drawn."""

    def draws(windows: WindowSource, turn: int) -> list[Any]:
        drawn = windows.draw(5, turn)
        first, second = windows.pairs(5, turn)
        others = windows.negatives(drawn, turn, by="video")
        return [listed(each) for each in (drawn, first, second, others, windows.rows(5, turn))]

    once = source([20, 30, 40], 3, seed=seed)
    expected = [draws(once, turn) for turn in range(6)]
    again = source([20, 30, 40], 3, seed=seed)
    assert {turn: draws(again, turn) for turn in turns} == dict(enumerate(expected))


def test_a_killed_fit_on_mapped_windows_ends_as_an_undisturbed_one_on_resident_ones(
    tmp_path: Path,
) -> None:
    def train(options: FitOptions) -> tuple[Fit[Any, Any], list[Picks]]:
        windows = source([9, 4, 30], 3, seed=2, options=options)
        drawn: list[Picks] = []
        torch.manual_seed(0)
        module = torch.nn.Linear(2, 1)

        def batch(turn: int) -> torch.Tensor:
            drawn.append(windows.draw(4, turn))
            return windows.read(drawn[-1]).float() / 30

        fit: Fit[Any, Any] = Fit(
            name="toy",
            steps=8,
            module=module,
            optimizer=torch.optim.SGD(module.parameters(), lr=0.1),
            batch=batch,
            forward=module,
            losses=lambda out: {"total": (out - 1).square().mean()},
            prefetch=windows.memory.prefetch,
        )
        fit.run(seed=5, options=options, resumed=Checkpoint.load(tmp_path))
        return fit, drawn

    expected, _ = train(FitOptions())
    kills = [2, 5]

    def on_step(row: Mapping[str, Any]) -> None:
        if kills and row["step"] >= kills[0]:
            kills.pop(0)
            raise InterruptedError

    options = FitOptions(folder=tmp_path, checkpoint_seconds=0, memory=0, on_step=on_step)
    for _ in range(2):
        with pytest.raises(InterruptedError):
            train(options)
    fit, drawn = train(options)
    assert len(drawn) < 8  # resumed, not started from scratch
    for name, value in expected.module.state_dict().items():
        assert torch.equal(fit.module.state_dict()[name], value)


def test_turns_kinds_and_seeds_draw_different_windows() -> None:
    a, b = source([9000], 3), source([9000], 3, seed=1)
    drawn = [a.draw(8, 0), a.draw(8, 1), b.draw(8, 0), a.rows(8, 0), a.pairs(8, 0)[0]]
    assert len({tuple(listed(picks)) for picks in drawn}) == 5


@pytest.mark.parametrize("memory", [0, None])
def test_objects_are_drawn_uniformly_from_ragged_videos(memory: int | None) -> None:
    """Videos without an object are never drawn; each object has the same chance."""
    lengths = [0, 3, 0, 0, 1, 7, 0]
    rows = rows_of(lengths)
    objects = WindowSource(RowMemory(rows, options=FitOptions(memory=memory)), 1, seed=4)
    picks = objects.rows(440, 0)
    assert uniform(listed(picks), windows_of(lengths, 1))
    read = objects.read_rows(picks).numpy()
    np.testing.assert_array_equal(read, np.stack([picks.video, picks.start], axis=1))


def test_all_windows_in_order() -> None:
    windows = source([5, 1, 4], 2)
    found = [listed(picks) for picks in windows.in_order(3)]
    assert found == [[(0, 0), (0, 1), (0, 2)], [(0, 3), (2, 0), (2, 1)], [(2, 2)]]
    found = [listed(picks) for picks in windows.in_order(10, stride=2)]
    assert found == [[(0, 0), (0, 2), (2, 0), (2, 2)]]


def test_a_source_of_another_step_reads_at_the_same_picks() -> None:
    memory = RowMemory(rows_of([10, 6]))
    plain, skip = WindowSource(memory, 4), WindowSource(memory, 4, step=3)
    picks = Picks(np.array([0, 0, 1]), np.array([0, 1, 0]))
    assert skip.fits(picks).tolist() == [True, False, False]
    assert plain.read(picks)[0, :, 1].tolist() == [0, 1, 2, 3]
    assert skip.read(Picks(picks.video[:1], picks.start[:1]))[0, :, 1].tolist() == [0, 3, 6, 9]
    with pytest.raises(DetectorError, match="4 rows with step 3 from row 1 are not in video 'v0'"):
        skip.read(picks)


def test_no_video_has_that_many_rows() -> None:
    with pytest.raises(DetectorError, match="no video has 12 rows of 'pixels': the longest has 11"):
        source([3, 11], 12)
    with pytest.raises(DetectorError, match="no video has 4 rows"):
        source([3], 2, step=3)


@pytest.mark.parametrize("settings_", [{"length": 0}, {"length": 2, "step": 0}])
def test_windows_without_rows_are_refused(settings_: dict[str, int]) -> None:
    with pytest.raises(DetectorError, match="both must be 1 or more"):
        source([9], **settings_)


@pytest.mark.parametrize("least_most", [(0, None), (5, 4)])
def test_distances_that_contradict_are_refused(least_most: tuple[int, int | None]) -> None:
    least, most = least_most
    with pytest.raises(DetectorError, match="no pair of windows is"):
        source([30], 2).pairs(1, 0, least=least, most=most)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_value_that_is_not_finite_names_its_video_and_row(value: float) -> None:
    values = [np.zeros((6, 3), np.float16) for _ in range(3)]
    values[1][4, 2] = value
    source = WindowSource(RowMemory(ArrayRows(values, role="flow")), 2)
    source.read(Picks(np.array([0, 1]), np.array([4, 2])))  # its rows 2 and 3 are zeros
    for read, start in ((source.read, 3), (source.read_rows, 4)):
        with pytest.raises(DetectorError, match=rf"'v1'.*'flow'.*row {start}"):
            read(Picks(np.array([0, 1, 2]), np.array([0, start, 0])))
