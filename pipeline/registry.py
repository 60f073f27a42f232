"""Extractors, detectors and data sets by their names, imported on first use.

The names stand in literal tables, `PLACES` of each room. Importing a class imports torch or scipy,
which takes seconds; `vadpipe --help` needs only the names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import data_manifests, detectors, extractors

if TYPE_CHECKING:
    from ..data_manifests.record import Manifest
    from ..detectors.base import Detector
    from ..extractors.base import Extractor
    from ..extractors.weights.cards import Weights
    from ..extractors.weights.slots import Slots

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Names of one kind; a value is imported on first use.

    Args:
        room:
            The package that the places are relative to.
        places:
            name -> "module:attribute".
    """

    def __init__(self, room: str, places: Mapping[str, str]) -> None:
        self._room = room
        self._places = dict(places)

    def __getitem__(self, name: str) -> T:
        module, _, attribute = self._places[name].partition(":")
        found: T = getattr(import_module(f"{self._room}.{module}"), attribute)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._places  # without importing the value

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


EXTRACTORS: Registry[type[Extractor[Any]]] = Registry(extractors.__name__, extractors.PLACES)
DETECTORS: Registry[type[Detector[Any]]] = Registry(detectors.__name__, detectors.PLACES)
DATASETS: Registry[Callable[..., Manifest]] = Registry(
    data_manifests.__name__, data_manifests.PLACES
)


# ------------------------------------------------------------------------------------- weights


@dataclass
class CardUse:
    """A weights card, and the networks that take it.

    Attributes:
        card: the card.
        slots: (extractor or detector, slot) pairs.
    """

    card: Weights
    slots: list[tuple[str, str]] = field(default_factory=list)

    def users(self) -> str:
        """The networks in one line: `extractor inception_i3d (network), ...`."""
        return ", ".join(f"{owner} ({slot})" for owner, slot in self.slots)


def cards_in_use() -> dict[str, CardUse]:
    """All weights cards by name. Every extractor and every detector is imported for it."""
    owners: list[tuple[str, Slots]] = [
        *((f"extractor {name}", kind.networks) for name, kind in EXTRACTORS.items()),
        *((f"detector {name}", kind.networks) for name, kind in DETECTORS.items()),
    ]
    uses: dict[str, CardUse] = {}
    for owner, slots in owners:
        for slot, cards in slots.items():
            for card in cards:
                uses.setdefault(card.name, CardUse(card)).slots.append((owner, slot))
    return uses
