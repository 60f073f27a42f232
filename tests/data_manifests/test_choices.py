from __future__ import annotations

import pytest

from vadpipe.data_manifests.choices import choices, likely

NAMES = ["knn", "mil_ranking", "rtfm", "ssrl"]


@pytest.mark.parametrize(
    ("given", "end"),
    [
        (["ssrk"], "; did you mean 'ssrl'?"),
        (["RTFM"], "; did you mean 'rtfm'?"),
        (["knm", "mil-ranking"], "; did you mean 'knn' or 'mil_ranking'?"),
        (["knm", "kn"], "; did you mean 'knn'?"),
        (["mil"], "; did you mean 'mil_ranking'?"),
        (["zebra"], ""),
        (["m"], ""),
        ([], ""),
    ],
)
def test_all_names_are_listed_and_close_ones_are_offered(given: list[str], end: str) -> None:
    assert choices(NAMES, *given) == f"knn, mil_ranking, rtfm, ssrl{end}"
    assert likely(NAMES, *given) == end


def test_names_that_differ_in_case_only_are_both_known() -> None:
    assert likely(["Frame", "frame"], "FRAMES") == "; did you mean 'Frame'?"


def test_where_there_is_nothing_to_choose_it_says_none() -> None:
    assert choices([], "a") == "none"
    assert choices(iter(NAMES), "ssrk").endswith("did you mean 'ssrl'?")  # read once only
