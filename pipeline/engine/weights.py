"""Pretrained weights for a run: from its cache, else from the default cache with a note."""

from __future__ import annotations

from functools import cache as memoise
from pathlib import Path

from ...extractors.weights.cards import ResolvedWeights
from ...extractors.weights.kept import folders, resolve_slots
from ...extractors.weights.slots import Slots, WeightsChoice
from .progress import tell


def find_weights(
    owner: str, slots: Slots, choice: WeightsChoice, cache: Path | None
) -> dict[str, ResolvedWeights]:
    """Find the weights of all networks of an extractor or a detector; never downloads.

    Prints which of them are not in the given cache.

    Args:
        owner:
            Its name, for messages.
        slots:
            Its networks.
        choice:
            What the user asks for.
        cache:
            Root of the cache; None is the default one.

    Raises:
        WeightsError: weights are missing or wrong, or the choice names no network of it.
    """
    found = resolve_slots(owner, slots, choice, cache=cache)
    own = folders(cache)[0]
    for each in found.values():
        if each.path is not None and each.path.parent != own:
            _say(each.card.name, each.path.parent, own)
    return found


@memoise
def _say(name: str, folder: Path, own: Path) -> None:
    """Print it once a process: a run finds its weights several times."""
    tell(f"weights {name} are taken from {folder}, as {own} lacks them")
