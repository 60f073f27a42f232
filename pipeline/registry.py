"""What there is by name: extractors, detectors and data sets, of vadpipe and of plug-ins.

The names of vadpipe's own stand in literal tables, `PLACES` of each room. Plug-ins are entry points
of installed distributions, read when a name is looked up that vadpipe does not have, or when all
names are wanted. Importing a class imports torch or scipy, which takes seconds; `vadpipe --help`
needs neither that nor the entry points.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import data_manifests, detectors, extractors
from ..data_manifests.errors import VadpipeError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from ..data_manifests.record import Manifest
    from ..detectors.base import Detector
    from ..extractors.base import Extractor
    from ..extractors.weights.cards import Weights
    from ..extractors.weights.slots import Slots

T = TypeVar("T")
OWN = "vadpipe"  # the distribution of the built-in names

log = logging.getLogger(__name__)


class PluginError(VadpipeError, RuntimeError):
    """A plug-in that cannot be used; the message names its distribution."""


@dataclass(frozen=True)
class Distribution:
    """An installed distribution, as pip names it.

    Attributes:
        name: of the distribution.
        version: that is installed.
    """

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def to_json(self) -> dict[str, str]:
        """Plain values, for recipes and cards."""
        return {"name": self.name, "version": self.version}


class Registry(Mapping[str, T], Generic[T]):
    """Names of one kind; a value is imported on first use.

    Looking up a name of vadpipe reads the entry points too: a plug-in must not take its place
    without a word. A plug-in that is broken is an error where it is asked for, and only there.

    Args:
        kind:
            What a value is, in words.
        room:
            The package that the places are relative to; its last part names the group of entry
            points, `vadpipe.extractors`.
        places:
            name -> "module:attribute" of vadpipe's own.
        group:
            Name of the group of entry points.
    """

    def __init__(self, kind: str, room: str, places: Mapping[str, str], group: str) -> None:
        self.kind = kind
        self._room = room
        self._places = dict(places)
        self._group = group

    @cached_property
    def _plugins(self) -> dict[str, list[EntryPoint]]:
        """Name -> entry points; more than one is a clash. Read once in a process."""
        from importlib.metadata import entry_points  # not needed for --help

        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self._group):
            found.setdefault(point.name, []).append(point)
        return dict(sorted(found.items()))

    def __getitem__(self, name: str) -> T:
        """The value of a name.

        Raises:
            KeyError: there is no such name.
            PluginError: it is a plug-in that cannot be imported or is no such thing, or several
                distributions have the name.
        """
        self._refuse_clash(name)
        if name not in self._places:
            return self._load(self._plugins[name][0])
        module, _, attribute = self._places[name].partition(":")
        found: T = getattr(import_module(f"{self._room}.{module}"), attribute)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._places or name in self._plugins  # without importing the value

    def __iter__(self) -> Iterator[str]:
        yield from self._places
        yield from (name for name in self._plugins if name not in self._places)

    def __len__(self) -> int:
        return len(self._places.keys() | self._plugins.keys())

    def usable(self) -> Iterator[tuple[str, T]]:
        """Names and values without broken plug-ins, each of which is logged as a warning."""
        for name in self:
            try:
                value = self[name]
            except PluginError as error:
                log.warning("%s", error)
                continue
            yield name, value

    def distribution(self, name: str) -> Distribution | None:
        """The distribution of a plug-in; None for a name of vadpipe.

        Raises:
            KeyError: there is no such name.
            PluginError: several distributions have the name.
        """
        self._refuse_clash(name)
        return None if name in self._places else _distribution_of(self._plugins[name][0])

    def recorded(self, name: str) -> dict[str, Any]:
        """What recipes and cards say of the origin of a name; empty for a name of vadpipe.

        Raises:
            KeyError: there is no such name.
            PluginError: several distributions have the name.
        """
        found = self.distribution(name)
        return {} if found is None else {"distribution": found.to_json()}

    def _refuse_clash(self, name: str) -> None:
        owners = [str(_distribution_of(point)) for point in self._plugins.get(name, ())]
        if name in self._places and owners:
            owners.insert(0, f"{OWN} itself")
        if len(owners) > 1:
            raise PluginError(
                f"{self.kind} {name!r} is in {' and in '.join(owners)}: a name must be unique; "
                "uninstall one of them, or rename its entry point"
            )

    def _load(self, point: EntryPoint) -> T:
        """Import a plug-in, and see that it is what its group says."""
        what = f"{self.kind} {point.name!r} of {_distribution_of(point)}"
        try:
            found: T = point.load()
        except Exception as error:  # code of others: anything may go wrong in its import
            raise PluginError(
                f"{what} cannot be imported: {type(error).__name__}: {error}; install what it "
                f"needs, or uninstall it (entry point {point.value})"
            ) from error
        if wrong := self._misfit(point.name, found):
            raise PluginError(f"{what} cannot be used: {point.value} {wrong}")
        return found

    def _misfit(self, name: str, found: Any) -> str | None:
        """What keeps a value from being one of this kind; None if nothing does."""
        if self._room == data_manifests.__name__:
            return None if callable(found) else "is no function(root, **options) -> Manifest"
        base = _base_of(self._room)
        if not (isinstance(found, type) and issubclass(found, base)):
            return f"is no subclass of {base.__module__}.{base.__name__}"
        own = getattr(found, "name", None)
        if own != name:
            return f"calls itself {own!r}: name and entry point must be equal"
        lacking = [each for each in base.__annotations__ if not hasattr(found, each)]
        lacking += sorted(getattr(found, "__abstractmethods__", ()))
        return f"lacks {', '.join(lacking)}" if lacking else None


def _distribution_of(point: EntryPoint) -> Distribution:
    dist = point.dist
    assert dist is not None  # entry_points() always states it
    return Distribution(dist.name, dist.version)


def _base_of(room: str) -> type:
    """The contract that the classes of a room keep."""
    if room == extractors.__name__:
        from ..extractors.base import Extractor

        return Extractor
    from ..detectors.base import Detector

    return Detector


EXTRACTORS: Registry[type[Extractor[Any]]] = Registry(
    "extractor", extractors.__name__, extractors.PLACES, "vadpipe.extractors"
)
DETECTORS: Registry[type[Detector[Any]]] = Registry(
    "detector", detectors.__name__, detectors.PLACES, "vadpipe.detectors"
)
DATASETS: Registry[Callable[..., Manifest]] = Registry(
    "data set", data_manifests.__name__, data_manifests.PLACES, "vadpipe.datasets"
)
# ------------------------------------------------------------------------------------- weights


@dataclass
class CardUse:
    """A weights card, and the networks that take it.

    Attributes:
        card: the card.
        slots: (extractor or detector, slot) pairs.
        default_of: those of them that take it where no other weights are named.
    """

    card: Weights
    slots: list[tuple[str, str]] = field(default_factory=list)
    default_of: list[tuple[str, str]] = field(default_factory=list)

    def users(self) -> str:
        """The networks in one line: `extractor inception_i3d (network), ...`."""
        return ", ".join(f"{owner} ({slot})" for owner, slot in self.slots)


def cards_in_use() -> dict[str, CardUse]:
    """All weights cards by name, without those of broken plug-ins.

    Every extractor and every detector is imported for it.
    """
    owners: list[tuple[str, Slots]] = [
        *((f"extractor {name}", kind.networks) for name, kind in EXTRACTORS.usable()),
        *((f"detector {name}", kind.networks) for name, kind in DETECTORS.usable()),
    ]
    uses: dict[str, CardUse] = {}
    for owner, slots in owners:
        for slot, cards in slots.items():
            for card in cards:
                use = uses.setdefault(card.name, CardUse(card))
                use.slots.append((owner, slot))
                if card is cards[0]:
                    use.default_of.append((owner, slot))
    return uses
