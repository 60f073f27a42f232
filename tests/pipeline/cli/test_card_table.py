"""The table of weights cards: every card has a row, defaults are marked, pages keep their text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vadpipe.extractors.detection.boxes_file import CARDS as BOXES
from vadpipe.pipeline.cli import card_table
from vadpipe.pipeline.cli.card_table import BEGIN, END, HEAD, NoPlaceError, with_table
from vadpipe.pipeline.registry import CardUse, cards_in_use


def rows() -> dict[str, list[str]]:
    lines = card_table.card_table().splitlines()[2:]
    cells = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]
    return {name: rest for name, *rest in cells}


def test_every_card_has_a_row_with_its_default_takers() -> None:
    found, uses = rows(), cards_in_use()
    assert list(found) == [f"`{name}`" for name in uses]
    taken, sha256, licence, origin = found["`yolox_nano.coco`"]
    card = uses["yolox_nano.coco"].card
    assert taken == "**objects (detector)**" and (licence, origin) == (card.licence, card.origin)
    assert sha256 == f"`{(card.sha256 or '')[:12]}`"
    assert "**vifi_clip (network)**" in found["`vifi_clip.k400`"][0]
    assert found["`vifi_clip.openai`"][0] == "vifi_clip (network)"
    assert found["`boxes.file`"][1] == "not known"


def test_one_default_for_each_slot() -> None:
    uses = cards_in_use().values()
    slots = {slot for use in uses for slot in use.slots}
    assert sorted(slots) == sorted(slot for use in uses for slot in use.default_of)


def test_the_page_around_the_table_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(BOXES[0], name="odd.card", licence="a | b")
    use = CardUse(card, [("extractor objects", "detector")])
    monkeypatch.setattr(card_table, "cards_in_use", lambda: {"odd.card": use})
    page = with_table(f"# Weights\n\n{BEGIN}\nold\n{END}\n\nmore\n")
    row = f"| `odd.card` | objects (detector) | not known | a \\| b | {card.origin} |"
    assert page == f"# Weights\n\n{BEGIN}\n\n{HEAD}\n{row}\n\n{END}\n\nmore\n"
    assert with_table(page) == page
    for broken in (f"{BEGIN}", f"{END}{BEGIN}", ""):
        with pytest.raises(NoPlaceError, match="lacks the lines"):
            with_table(broken)
