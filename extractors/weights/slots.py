"""Weight slots: the networks that an extractor or a detector has, each with the cards that fit.

An extractor with one network has one slot, `NETWORK`. One with several names each: a detector and
its teachers, for example. A slot may be absent for some settings: a teacher that is switched off.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ...data_manifests.choices import choices, likely
from .cards import ResolvedWeights, Weights, WeightsError

NETWORK = "network"
"""The slot of an extractor or a detector with one network."""

Slots = Mapping[str, tuple[Weights, ...]]
"""Slot -> the cards that fit, the default first."""

WeightsChoice = str | Mapping[str, str] | None
"""What a user asks for: nothing, a spec for the only network, or slot -> spec.

A spec is a card's name, a file, CARD=FILE, or "random:SEED"."""

SHOWN = 19  # characters of an identity
_SLOT_AND_SPEC = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.+)", re.DOTALL)


def misfit(owner: str, slots: Slots, weights: Mapping[str, ResolvedWeights]) -> str | None:
    """What is wrong with the weights that an extractor or a detector is given.

    Args:
        owner:
            Its name, for the message.
        slots:
            Its networks with the settings at hand.
        weights:
            Slot -> weights.

    Returns:
        A message; None where every slot has weights that fit.
    """
    plain = set(slots) <= {NETWORK}
    if unknown := sorted(weights.keys() - slots.keys()):
        if not slots:
            return f"{owner} takes no weights"
        return f"{owner} has no network {', '.join(unknown)}; it has: {choices(slots, *unknown)}"
    if missing := [slot for slot in slots if slot not in weights]:
        return f"{owner} needs weights" + ("" if plain else f" for {', '.join(missing)}")
    for slot, cards in slots.items():
        fitting = [card.name for card in cards]
        if weights[slot].card.name not in fitting:
            place = "" if plain else f"the network {slot} with "
            return (
                f"weights {weights[slot].card.name!r} do not fit {place}these settings of {owner}; "
                f"these do: {', '.join(fitting)}"
            )
    return None


# ------------------------------------------------------------------------------------- recipes


def recorded(weights: Mapping[str, ResolvedWeights]) -> str | dict[str, str] | None:
    """Identities of weights as recipes hold them.

    Returns:
        None without a network, the plain identity where `NETWORK` is the only slot (so that a
        second slot which is absent changes no key), else slot -> identity.
    """
    identities = {slot: each.identity for slot, each in weights.items()}
    if not identities:
        return None
    return identities[NETWORK] if set(identities) == {NETWORK} else identities


def identities_in(entry: str | Mapping[str, str] | None) -> dict[str, str]:
    """Slot -> identity; the inverse of `recorded`."""
    if entry is None:
        return {}
    return {NETWORK: entry} if isinstance(entry, str) else dict(entry)


def shortened(weights: Mapping[str, ResolvedWeights]) -> str:
    """Identities of weights for people, in one line."""
    entry = recorded(weights)
    if entry is None or isinstance(entry, str):
        return (entry or "none")[:SHOWN]
    return ", ".join(f"{slot} {identity[:SHOWN]}" for slot, identity in entry.items())


# -------------------------------------------------------------------------------- what is asked


def parse_choice(texts: Sequence[str]) -> WeightsChoice:
    """What several `--weights` options ask for.

    `SLOT=SPEC` starts with a word without a dot; names of cards have one, so `CARD=FILE` is a spec.

    Args:
        texts:
            `SPEC` once, or `SLOT=SPEC` for several slots.

    Raises:
        WeightsError: a slot is named twice, or a spec does not say which slot it is for.
    """
    chosen: dict[str, str] = {}
    for text in texts:
        found = _SLOT_AND_SPEC.fullmatch(text)
        if found is None:
            if len(texts) == 1:
                return text
            raise WeightsError(
                f"--weights {text}: say which network it is for, SLOT=SPEC, as there are several "
                "--weights"
            )
        slot, spec = found.groups()
        if slot in chosen:
            raise WeightsError(f"--weights {slot}={chosen[slot]} and {slot}={spec}: take one")
        chosen[slot] = spec
    return chosen or None


def share_out(
    choice: WeightsChoice, owners: Mapping[str, Collection[str]]
) -> dict[str, WeightsChoice]:
    """What one choice means for each of several extractors.

    A plain spec goes to all that have a network. `SLOT=SPEC` goes to all that have that slot; the
    others, and other slots, take their defaults.

    Args:
        choice:
            What was asked for.
        owners:
            Name -> its slots.

    Raises:
        WeightsError: none of them has such a slot, or there are none.
    """
    if choice is not None and not owners:
        raise WeightsError("there is no extractor here that takes weights")
    if choice is None or isinstance(choice, str):
        # Where none has a network, each refuses the choice by its own name.
        anywhere = any(owners.values())
        return {name: choice if slots or not anywhere else None for name, slots in owners.items()}
    known = {slot for slots in owners.values() for slot in slots}
    if unknown := sorted(choice.keys() - known):
        lines = "; ".join(f"{name}: {', '.join(slots) or 'none'}" for name, slots in owners.items())
        raise WeightsError(
            f"no network {', '.join(unknown)}; there are: {lines}{likely(known, *unknown)}"
        )
    return {
        name: {slot: choice[slot] for slot in slots if slot in choice} or None
        for name, slots in owners.items()
    }


def specs_by_slot(owner: str, slots: Slots, choice: WeightsChoice) -> dict[str, str]:
    """Slot -> spec for what is asked for; slots that are not named take their defaults.

    Raises:
        WeightsError: there is no such network, or a plain spec does not say for which one it is.
    """
    if choice is None:
        return {}
    if isinstance(choice, str):
        if not slots:
            raise WeightsError(f"{owner} has no network and takes no weights")
        if len(slots) > 1:
            raise WeightsError(
                f"{owner} has several networks: write SLOT=SPEC instead of {choice!r}, with SLOT "
                f"one of {', '.join(slots)}"
            )
        return dict.fromkeys(slots, choice)
    if unknown := sorted(choice.keys() - slots.keys()):
        raise WeightsError(
            f"{owner} has no network {', '.join(unknown)} with these settings; it has: "
            f"{choices(slots, *unknown)}"
        )
    return dict(choice)
