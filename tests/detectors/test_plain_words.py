"""Words for a guard: grammar by hand, and no number or term of the method in any of them."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vadpipe.detectors.attribute_models import ATTRIBUTES, Name
from vadpipe.detectors.plain_words import MOST, Reason, named, sentence
from vadpipe.extractors.networks.coco import COCO


@pytest.mark.parametrize(
    ("label", "reasons", "said"),
    [
        (
            "person",
            [Reason("speed", 3.0), Reason("direction", 1.1)],
            "a person moves in an unusual direction, much faster than usual",
        ),
        ("person", [Reason("speed", 1.2)], "a person moves faster than usual"),
        ("car", [Reason("place", 1.5)], "a car is at an unusual place"),
        (None, [Reason("place", 2.0)], "something is far from any usual place"),
        ("umbrella", [Reason("deep", 9.0)], "an umbrella looks unusual"),
        ("skis", [Reason("stay", 1.0)], "a pair of skis stays longer than usual"),
        ("person", [Reason("class", kind="bicycle")], "a bicycle is here, which is unusual"),
        (
            "person",
            [Reason("speed", 2.5), Reason("class", kind="bicycle"), Reason("size")],
            "a bicycle, unusual here, moves much faster than usual and has an unusual size for "
            "this place",
        ),
        (
            "dog",
            [Reason("place"), Reason("direction"), Reason("speed"), Reason("stay"), Reason("pose")],
            "a dog is at an unusual place, moves in an unusual direction, faster than usual, and "
            "stays longer than usual",
        ),
    ],
)
def test_sentences(label: str | None, reasons: list[Reason], said: str) -> None:
    assert sentence(label, reasons) == said


def test_without_a_reason_nothing_is_said() -> None:
    assert sentence("person", []) is None
    assert named("") == named(None) == "something"


@given(
    st.one_of(st.none(), st.sampled_from(COCO)),
    st.lists(
        st.tuples(st.sampled_from(get_args(Name)), st.floats(0, 1e9), st.sampled_from(COCO)),
        min_size=1,
        unique_by=lambda each: each[0],
    ),
)
def test_every_attribute_has_words_without_numbers(label, found) -> None:
    reasons = [
        Reason(name, kind=kind) if name == "class" else Reason(name, times)
        for name, times, kind in found
    ]
    said = sentence(label, reasons)
    assert said is not None and not re.search(r"\d", said)
    assert said.count(" moves ") <= 1
    assert len(re.findall(r" (?:moves|is|has|stays|looks)\b", said)) <= MOST
    assert not re.search(r"density|training|limit|box|px", said)


def test_every_attribute_of_the_detector_is_known() -> None:
    for name in ATTRIBUTES:
        assert sentence(None, [Reason(name, 1.0, "car" if name == "class" else "")])
