"""The natural order, and what it must keep of the two orders that it replaces."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from vadpipe.data_manifests.natural_order import natural_key, path_key

SOME = st.text("aAbB019_.-é", min_size=1, max_size=8)
# Names as data sets number them: one writing of letters, numbers of one width.
PLAIN = st.builds("{}{:03d}{}".format, st.sampled_from("av"), st.integers(0, 999), st.just(".png"))


def images_of_0_1_0(name: str) -> tuple[list[tuple[int, str]], str]:
    """The order of image folders in version 0.1.0: it is in the content ids of its caches."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"([0-9]+)", name.lower())
    ], name


def manifests_of_0_1_0(name: str) -> tuple[tuple[bool, int, str], ...]:
    """The order of footage, label images and feature files in version 0.1.0."""
    parts = re.split(r"([0-9]+)", name)
    return (*((p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts), (False, 0, name))


def test_numbers_count_by_value() -> None:
    names = ["10_label", "2_label", "1_label", "a10", "a9", "a", "010", "10", "B1", "b2"]
    assert sorted(names, key=natural_key) == [
        *("1_label", "2_label", "010", "10", "10_label"),
        *("a", "a9", "a10", "B1", "b2"),
    ]


@given(st.lists(SOME, unique=True))
def test_the_order_is_total(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == sorted(reversed(names), key=natural_key)


@given(st.lists(SOME, unique=True))
def test_image_folders_keep_their_order(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == sorted(names, key=images_of_0_1_0)


@given(st.lists(PLAIN, unique=True))
def test_plain_names_keep_their_order_in_manifests(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == sorted(names, key=manifests_of_0_1_0)


def test_where_the_orders_of_0_1_0_differed() -> None:
    """Mixed case, and numbers of one value with other zeros: images and masks now agree."""
    for names in (["B1.png", "a2.png"], ["img01_b.png", "img1_a.png"]):
        assert sorted(names, key=manifests_of_0_1_0) != sorted(names, key=images_of_0_1_0)
        assert sorted(names, key=natural_key) == sorted(names, key=images_of_0_1_0)


def test_paths_are_in_order_folder_by_folder() -> None:
    """As text, `a-b/` would come before `a/`, since "-" comes before "/"."""
    paths = ["a/2.npy", "a/10.npy", "a10/x.npy", "a-b/1.npy"]
    assert sorted(reversed(paths), key=path_key) == paths
