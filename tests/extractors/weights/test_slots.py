"""Slots: what is asked for, what fits, and what recipes hold."""

from __future__ import annotations

from typing import Any

import pytest

from tests.two_networks import READERS, TEACHERS
from vadpipe.extractors.weights.cards import ResolvedWeights, WeightsError
from vadpipe.extractors.weights.slots import (
    NETWORK,
    identities_in,
    misfit,
    parse_choice,
    recorded,
    share_out,
    shortened,
    specs_by_slot,
)

ONE = {NETWORK: READERS}
TWO = {"reader": READERS, "teacher": TEACHERS}
READER = ResolvedWeights(READERS[1], "a" * 64, None)
TEACHER = ResolvedWeights(TEACHERS[0], "random:3", None)


@pytest.mark.parametrize(
    ("slots", "weights", "message"),
    [
        ({}, {}, None),
        ({}, {NETWORK: READER}, "owner takes no weights"),
        (ONE, {NETWORK: READER}, None),
        (ONE, {}, "owner needs weights"),
        (
            ONE,
            {NETWORK: TEACHER},
            "weights 'teacher.only' do not fit these settings of owner; these do: reader.first, "
            "reader.second",
        ),
        (TWO, {"teacher": TEACHER, "reader": READER}, None),
        (TWO, {"teacher": TEACHER}, "owner needs weights for reader"),
        (TWO, {}, "owner needs weights for reader, teacher"),
        (
            TWO,
            {"reader": READER, "teacher": TEACHER, "pose": READER},
            "owner has no network pose; it has: reader, teacher",
        ),
        (
            TWO,
            {"reader": READER, "teacher": READER},
            "weights 'reader.second' do not fit the network teacher with these settings of owner; "
            "these do: teacher.only",
        ),
    ],
)
def test_weights_have_to_fit_their_slots(slots: Any, weights: Any, message: str | None) -> None:
    assert misfit("owner", slots, weights) == message


def test_one_network_is_recorded_as_plain_text() -> None:
    """Keys of one-network extractors do not know that there are slots."""
    for weights, entry, line in (
        ({}, None, "none"),
        ({NETWORK: READER}, "a" * 64, "a" * 19),
        (
            {"reader": READER, "teacher": TEACHER},
            {"reader": "a" * 64, "teacher": "random:3"},
            f"reader {'a' * 19}, teacher random:3",
        ),
        ({"reader": READER}, {"reader": "a" * 64}, f"reader {'a' * 19}"),
    ):
        assert recorded(weights) == entry
        assert identities_in(entry) == {slot: each.identity for slot, each in weights.items()}
        assert shortened(weights) == line


@pytest.mark.parametrize(
    ("texts", "choice"),
    [
        ([], None),
        (["random:0"], "random:0"),
        (["/folder/a=b.pth"], "/folder/a=b.pth"),
        (["inception_i3d.piergiaj=rgb.pt"], "inception_i3d.piergiaj=rgb.pt"),
        (["teacher=random:1"], {"teacher": "random:1"}),
        (
            ["reader=reader.first=own.pt", "teacher=random:1"],
            {"reader": "reader.first=own.pt", "teacher": "random:1"},
        ),
    ],
)
def test_what_the_command_line_asks_for(texts: list[str], choice: Any) -> None:
    assert parse_choice(texts) == choice


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        (["random:0", "own.pt"], "random:0: say which network it is for, SLOT=SPEC"),
        (["teacher=random:0", "own.pt"], "own.pt: say which network it is for"),
        (["teacher=a", "teacher=b"], "teacher=a and teacher=b: take one"),
    ],
)
def test_what_the_command_line_cannot_mean(texts: list[str], match: str) -> None:
    with pytest.raises(WeightsError, match=match):
        parse_choice(texts)


def test_several_extractors_share_a_choice() -> None:
    owners = {"plain": (), "one": (NETWORK,), "two": ("reader", "teacher")}
    assert share_out(None, owners) == dict.fromkeys(owners)
    assert share_out("random:0", owners) == {"plain": None, "one": "random:0", "two": "random:0"}
    assert share_out({"teacher": "t", NETWORK: "n"}, owners) == {
        "plain": None,
        "one": {NETWORK: "n"},
        "two": {"teacher": "t"},
    }
    assert share_out("random:0", {"plain": ()}) == {"plain": "random:0"}, "which refuses it"
    with pytest.raises(WeightsError, match="no network pose; there are: plain: none; one: network"):
        share_out({"pose": "x", "teacher": "t"}, owners)
    with pytest.raises(WeightsError, match="no extractor here that takes weights"):
        share_out("random:0", {})


def test_a_choice_by_slot() -> None:
    assert specs_by_slot("owner", TWO, None) == {}
    assert specs_by_slot("owner", ONE, "random:0") == {NETWORK: "random:0"}
    assert specs_by_slot("owner", {"encoder": READERS}, "own.pt") == {"encoder": "own.pt"}
    assert specs_by_slot("owner", TWO, {"teacher": "t"}) == {"teacher": "t"}
    for slots, choice, match in (
        ({}, "random:0", "owner has no network and takes no weights"),
        (TWO, "random:0", "several networks: write SLOT=SPEC .* one of reader, teacher"),
        (TWO, {"pose": "x"}, "no network pose with these settings; it has: reader, teacher"),
        ({}, {"pose": "x"}, "no network pose with these settings; it has: none"),
    ):
        with pytest.raises(WeightsError, match=match):
            specs_by_slot("owner", slots, choice)
