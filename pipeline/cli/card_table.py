"""The table of weights cards in the documentation, made from the cards themselves.

`python -m vadpipe.pipeline.cli.card_table FILE` writes it into a page, between two comments.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ...data_manifests.errors import VadpipeError
from ..registry import CardUse, cards_in_use

BEGIN = "<!-- Made from the cards by `make docs`; edit the cards, not this table. -->"
END = "<!-- End of the cards. -->"
HEAD = """\
| card | taken by | sha256 | licence | origin |
| --- | --- | --- | --- | --- |"""


class NoPlaceError(VadpipeError, ValueError):
    """A page has no place for the table."""


def card_table() -> str:
    """A row for each card, as Markdown; in bold what takes it by default."""
    return "\n".join([HEAD, *(_row(use) for use in cards_in_use().values())])


def with_table(page: str) -> str:
    """A page with the table between its two comments.

    Raises:
        NoPlaceError: it does not have both.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise NoPlaceError(f"the page lacks the lines {BEGIN!r} and {END!r}: write them")
    return f"{before}{BEGIN}\n\n{card_table()}\n\n{END}{after}"


def _row(use: CardUse) -> str:
    card = use.card
    takers = []
    for owner, slot in use.slots:
        taker = f"{owner.split()[-1]} ({slot})"
        takers.append(f"**{taker}**" if (owner, slot) in use.default_of else taker)
    known = f"`{card.sha256[:12]}`" if card.sha256 else "not known"
    cells = (f"`{card.name}`", ", ".join(takers), known, card.licence, card.origin)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_text(with_table(place.read_text(encoding="utf-8")), encoding="utf-8")
