"""Common rows: borders, gaps, and the same frames as before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vadpipe.pipeline.scores.frames import MetricsError, expand_to_frames
from vadpipe.pipeline.scores.joined import ScoreRows, join_rows


def part(*rows: tuple[int, int, float]) -> ScoreRows:
    start, stop, score = zip(*rows, strict=True)
    return ScoreRows(np.array(start), np.array(stop), np.array(score, float))


def as_lists(joined: ScoreRows) -> list[tuple[int, int, list[float]]]:
    starts, stops = joined.frame_start.tolist(), joined.frame_stop.tolist()
    return list(zip(starts, stops, joined.score.tolist(), strict=True))


def test_borders_of_all_parts_cut_the_rows() -> None:
    joined = join_rows([part((0, 4, 1), (4, 8, 2)), part((0, 6, 5), (6, 12, 7))])
    assert as_lists(joined) == [
        (0, 4, [1, 5]),
        (4, 6, [2, 5]),
        (6, 8, [2, 7]),
        (8, 12, [2, 7]),
    ]


def test_a_gap_is_cut_where_the_nearest_row_changes() -> None:
    joined = join_rows([part((0, 2, 1), (6, 8, 2)), part((0, 8, 5))])
    assert as_lists(joined) == [
        (0, 2, [1, 5]),
        (2, 4, [1, 5]),
        (4, 6, [2, 5]),
        (6, 8, [2, 5]),
    ]


def test_equal_rows_are_kept_though_they_overlap() -> None:
    one, other = part((0, 16, 1), (1, 17, 2)), part((0, 16, 3), (1, 17, 4))
    assert as_lists(join_rows([one, other])) == [(0, 16, [1, 3]), (1, 17, [2, 4])]
    assert as_lists(join_rows([one])) == [(0, 16, [1]), (1, 17, [2])]


@st.composite
def parts(draw: st.DrawFn) -> ScoreRows:
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 20), st.integers(1, 8), st.integers(-3, 3)),
            min_size=1,
            max_size=5,
        )
    )
    return part(*[(start, start + length, score) for start, length, score in rows])


@given(several=st.lists(parts(), min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_frames_have_the_scores_that_each_part_gives_them(several: list[ScoreRows]) -> None:
    joined = join_rows(several)
    start = int(min(p.frame_start.min() for p in several))
    stop = int(max(p.frame_stop.max() for p in several))
    for i, each in enumerate(several):
        ours = expand_to_frames(
            joined.frame_start, joined.frame_stop, joined.score[:, i], start, stop
        )
        theirs = expand_to_frames(each.frame_start, each.frame_stop, each.score, start, stop)
        np.testing.assert_array_equal(ours, theirs)


def test_rows_that_make_no_sense_are_refused() -> None:
    for nothing in ([], [ScoreRows(*(np.zeros(0, np.int64),) * 2, np.zeros(0))]):
        with pytest.raises(MetricsError, match="no rows to join"):
            join_rows(nothing)
    with pytest.raises(MetricsError, match="a window is empty"):
        join_rows([part((0, 4, 1)), part((4, 4, 1))])
