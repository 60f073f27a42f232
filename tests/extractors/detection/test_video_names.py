"""Names in a boxes file: which one a path has, and what tells two paths apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.extractors.detection.video_names import check_distinct, name_of, telling
from vadpipe.extractors.errors import ExtractorError

PARTS = st.sampled_from(
    ["a", "b", "a.mp4", "a.avi", "cam 1", ".", "a.b.c", "caf\u00e9", "cafe\u0301"]
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


def test_the_longest_end_is_the_name() -> None:
    names = {"a": 0, "cam1/a": 1, "b.mp4": 2}
    assert name_of("/data/cam1/a.mp4", names) == "cam1/a"
    assert name_of("/data/cam2/a.mp4", names) == "a"
    assert name_of("/data/b.mp4", names) == "b.mp4"
    assert name_of("/data/b.avi", names) is name_of("/data/aa.mp4", names) is None


def test_a_name_of_two_videos_is_refused_with_names_that_tell_them_apart() -> None:
    cams = ["/data/cam1/a.mp4", "/data/cam2/a.mp4"]
    with pytest.raises(ExtractorError) as caught:
        check_distinct(cams, {"a": 0, "b": 1})
    text = str(caught.value)
    assert "one video 'a', but 2 videos of this run end with it: " + ", ".join(cams) in text
    assert text.endswith("Write more of each path into the file: cam1/a, cam2/a")
    check_distinct(cams, {"a": 0, "cam1/a": 1})
    check_distinct([*cams, "/data/c.mp4"], {"cam1/a": 0, "cam2/a": 1})
    check_distinct(cams[:1], {"a": 0})


def test_suffixes_tell_videos_apart_where_nothing_else_does() -> None:
    assert telling(["/x/a.mp4", "/x/a.avi"]) == ["a.mp4", "a.avi"]
    assert telling(["/a.mp4", "/x/a.mp4"]) == ["a", "x/a"]
    many = [f"/data/{i}/a.mp4" for i in range(9)]
    with pytest.raises(ExtractorError, match=r"9 videos .*/data/4/a.mp4 and 4 more\. Write"):
        check_distinct(many, {"a": 0})


@given(st.lists(PATHS, min_size=2, max_size=4, unique=True))
def test_what_is_advised_is_accepted(paths: list[str]) -> None:
    """Whatever the message says to write names each video by itself."""
    advised = {name: i for i, name in enumerate(telling(paths))}
    if len(advised) < len(paths):
        return  # accents of another kind only: they are one file on some systems
    check_distinct(paths, advised)
