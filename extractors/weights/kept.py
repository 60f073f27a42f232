"""Find, convert, check and list the weights in the cache folder; never downloads.

An original file is opened once, without running code that it contains. It is converted to
safetensors with the network's own key names, and kept in the cache folder with two sha256: that of
the original file, and that of its own tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...data_manifests.atomic import write_atomically
from ...data_manifests.choices import likely
from .cards import COUNTER, Arrays, LayoutError, ResolvedWeights, Weights, WeightsError
from .guarded_read import check_size, guarded_arrays
from .slots import Slots, WeightsChoice, specs_by_slot

CONVERTER_VERSION = "1"  # raised when a conversion makes other tensors than before


@dataclass(frozen=True)
class WeightsRow:
    """What is known about a card on this machine.

    Attributes:
        name: name of the card.
        file: path of the weights; None if they are missing.
        state: "present", "missing", or "broken" if a hash is wrong.
        size: bytes of the file.
        sha256: hash of the original file, from the card or the cache.
        licence: licence of the weights.
        origin: who trained them, and on which data.
        problem: what is wrong; None if nothing is.
    """

    name: str
    file: Path | None
    state: Literal["present", "missing", "broken"]
    size: int
    sha256: str | None
    licence: str
    origin: str
    problem: str | None = None


def weights_dir(cache: Path | None = None) -> Path:
    """Return the folder of converted weights.

    Args:
        cache:
            Root of the cache; None takes `$VADPIPE_CACHE`, then the user's cache folder.
    """
    if cache is None:
        if told := os.environ.get("VADPIPE_CACHE"):
            cache = Path(told)
        else:
            import pooch

            cache = Path(pooch.os_cache("vadpipe"))
    return cache / "weights"


def folders(cache: Path | None = None) -> list[Path]:
    """Return the folders that are searched for weights, in order.

    The default cache comes after another one that is given: weights are large and always checked
    by their hash, so they are kept once for many caches.

    Args:
        cache:
            Root of the cache, as in `weights_dir`.
    """
    own, default = weights_dir(cache).absolute(), weights_dir().absolute()
    return [own] if own == default else [own, default]


def resolve(
    card: Weights | Sequence[Weights],
    spec: str | None,
    *,
    cache: Path | None = None,
    slot: str = "",
) -> ResolvedWeights:
    """Find the weights that a user names.

    For a card, `$VADPIPE_WEIGHTS/<file>` is tried first, then the cache, then the default cache,
    for a converted or an original file. A user's own file is read with the first card whose layout
    fits; `NAME=FILE` names the card. What is converted is written to the given cache.

    Args:
        card:
            The card or cards that fit the network, the default first.
        spec:
            None (the default card), a card's name, "random:SEED", FILE or NAME=FILE.
        cache:
            Root of the cache, as in `weights_dir`.
        slot:
            That the command line has to name, where there are several.

    Raises:
        WeightsError: there are no such weights, a hash is wrong, or the file cannot be used.
    """
    cards = (card,) if isinstance(card, Weights) else tuple(card)
    names = {each.name: each for each in cards}
    if spec is None or spec in names:
        return resolve_card(cards[0] if spec is None else names[spec], cache, slot)
    if spec.startswith("random:"):
        return ResolvedWeights(cards[0], f"random:{seed_in(spec)}", None)
    name, _, stated = spec.partition("=")
    if stated and name in names:
        cards, spec = (names[name],), stated
    path = Path(spec).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"no weights {spec!r}: it is neither a card ({', '.join(names)}), nor random:SEED, "
            f"nor a file{likely(names, spec)}"
        )
    check_size(path)
    return convert_file(path, file_sha256(path), cards, folders(cache)[0], prefix="own.")


def resolve_slots(
    owner: str, slots: Slots, choice: WeightsChoice, *, cache: Path | None = None
) -> dict[str, ResolvedWeights]:
    """Find the weights of all networks of an extractor or a detector; never downloads.

    Args:
        owner:
            Its name, for messages.
        slots:
            Its networks.
        choice:
            What the user asks for; networks that are not named take their default cards.
        cache:
            Root of the cache, as in `weights_dir`.

    Raises:
        WeightsError: weights are missing or wrong, or the choice names no network of it.
    """
    specs = specs_by_slot(owner, slots, choice)
    said = {slot: slot if len(slots) > 1 else "" for slot in slots}
    return {
        slot: resolve(cards, specs.get(slot), cache=cache, slot=said[slot])
        for slot, cards in slots.items()
    }


def resolve_card(card: Weights, cache: Path | None = None, slot: str = "") -> ResolvedWeights:
    """Find the weights of a card on this machine, check them and convert them if needed.

    Args:
        card:
            The card.
        cache:
            Root of the cache, as in `weights_dir`.
        slot:
            That the command line has to name, where there are several.

    Raises:
        WeightsError: they are missing or wrong; the message says which command helps.
    """
    places = folders(cache)
    found = _find(card, places)
    if found is None:
        by_hand = [str(Path(told) / card.file)] if (told := _own_folder()) else []
        looked = ", ".join([*by_hand, *map(str, places)])
        option = f"--weights {slot}=" if slot else "--weights "
        raise WeightsError(
            f"weights {card.name!r} are missing (looked for {looked}). "
            f"Type `vadpipe weights fetch {card.name}`, or give a file ({option}FILE), or test "
            f"with random weights ({option}random:0)"
        )
    path, converted = found
    digest = _check(card, path, converted)
    if converted:
        return ResolvedWeights(card, digest, path)
    return convert_file(path, digest, (card,), places[0])


def _find(card: Weights, places: Sequence[Path]) -> tuple[Path, bool] | None:
    """Find the file of a card, and whether it is a converted one."""
    if (told := _own_folder()) and (Path(told) / card.file).is_file():
        return Path(told) / card.file, False
    return next((found for folder in places if (found := _find_in(card, folder))), None)


def _find_in(card: Weights, folder: Path) -> tuple[Path, bool] | None:
    tag = "*" if card.sha256 is None else card.sha256[:12]
    converted = sorted(folder.glob(f"{card.name}-{tag}.safetensors"))
    if len(converted) > 1:
        raise WeightsError(
            f"several files claim to be {card.name!r}; remove all but one: "
            f"{', '.join(map(str, converted))}"
        )
    if converted:
        return converted[0], True
    original = folder / card.file
    return (original, False) if original.is_file() else None


def _own_folder() -> str | None:
    return os.environ.get("VADPIPE_WEIGHTS") or None


def _check(card: Weights, path: Path, converted: bool) -> str:
    """Check a stored file and return the sha256 of its original.

    Raises:
        WeightsError: the file contradicts the card or its own record.
    """
    check_size(path)
    found = read_converted(path)[1]["source_sha256"] if converted else file_sha256(path)
    if card.sha256 is not None and found != card.sha256:
        raise WeightsError(
            f"{path} is not {card.name!r}: its sha256 is {found}, the card says {card.sha256}. "
            f"Remove it and type `vadpipe weights fetch {card.name}`"
        )
    return found


def seed_in(spec: str) -> int:
    """Read the seed of "random:SEED".

    Raises:
        WeightsError: the seed is not a whole number.
    """
    seed = spec.removeprefix("random:")
    if not seed.isdecimal():
        raise WeightsError(
            f"{spec!r}: the seed of random weights is a whole number, as in random:0"
        )
    return int(seed)


def verify(card: Weights, cache: Path | None = None, *, anywhere: bool = True) -> WeightsRow:
    """Hash the stored file of a card and report its state; a bad file does not raise.

    Args:
        card:
            The card.
        cache:
            Root of the cache, as in `weights_dir`.
        anywhere:
            False does not look in the default cache after the given one.
    """
    found, problem, digest = None, None, card.sha256
    try:
        found = _find(card, folders(cache) if anywhere else folders(cache)[:1])
        if found is not None:
            digest = _check(card, *found)
    except WeightsError as error:
        problem = str(error)
    path = None if found is None else found[0]
    state: Literal["present", "missing", "broken"] = "missing" if path is None else "present"
    return WeightsRow(
        name=card.name,
        file=path,
        state="broken" if problem else state,
        size=0 if path is None else path.stat().st_size,
        sha256=digest,
        licence=card.licence,
        origin=card.origin,
        problem=problem,
    )


def ls(cards: Sequence[Weights], cache: Path | None = None) -> list[WeightsRow]:
    """Report the state of each card: present, missing or broken."""
    return [verify(card, cache) for card in cards]


def convert_file(
    path: Path, digest: str, cards: Sequence[Weights], folder: Path, prefix: str = ""
) -> ResolvedWeights:
    """Convert an original to safetensors with the network's own names, once.

    Args:
        path:
            The original.
        digest:
            Its sha256.
        cards:
            Layouts to try, in order.
        folder:
            Folder of converted files.
        prefix:
            Start of the file name; it separates users' own files from those of cards.

    Raises:
        WeightsError: the file cannot be read, or fits none of the layouts.
    """
    targets = [folder / f"{prefix}{card.name}-{digest[:12]}.safetensors" for card in cards]
    for card, target in zip(cards, targets, strict=True):
        if target.is_file() and _is_converted(target, digest):
            return ResolvedWeights(card, digest, target)
    misfits = {}
    arrays: Arrays | None = None
    for card, target in zip(cards, targets, strict=True):
        try:
            if card.opaque:
                tensors = guarded_arrays(path, folder, card.convert)
            else:
                arrays = guarded_arrays(path, folder) if arrays is None else arrays
                tensors = card.convert(arrays)
        except LayoutError as error:
            misfits[card.layout] = str(error)
            continue
        record = {"source_sha256": digest, "card": card.name, "layout": card.layout}
        _write_converted(target, tensors, record)
        return ResolvedWeights(card, digest, target)
    reasons = "; ".join(f"{layout}: {reason}" for layout, reason in misfits.items())
    raise WeightsError(f"{path} fits no layout that this network knows ({reasons})")


def copy_converted(path: Path, folder: Path) -> Path:
    """Copy a converted file to another folder of weights, and return the copy."""
    target = folder / path.name
    write_atomically(target, lambda temporary: shutil.copyfile(path, temporary))
    return target


def _is_converted(target: Path, digest: str) -> bool:
    try:
        return read_converted(target)[1]["source_sha256"] == digest
    except WeightsError:
        return False  # the caller has the original and converts it again


def _write_converted(target: Path, tensors: Arrays, record: Mapping[str, str]) -> None:
    from safetensors.numpy import save

    kept = {
        name: np.asarray(value, np.float32 if value.dtype.kind == "f" else None, order="C")
        for name, value in tensors.items()
        if not name.endswith(COUNTER)
    }
    record = {**record, "converter": CONVERTER_VERSION}
    data = save(kept, {**record, "content_sha256": _content_sha256(kept, record)})
    write_atomically(target, lambda path: path.write_bytes(data))


def read_converted(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read tensors and record of a converted file, and check their hash.

    Raises:
        WeightsError: the file is damaged, or another version of the converter wrote it.
    """
    from safetensors import SafetensorError, safe_open

    again = "remove it and fetch it (or give the original) again"
    try:
        with safe_open(path, framework="numpy") as opened:
            record = dict(opened.metadata() or {})
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged ({error}): {again}") from error
    if record.pop("content_sha256", None) != _content_sha256(tensors, record):
        raise WeightsError(f"{path} is damaged (its content does not have its hash): {again}")
    if record.get("converter") != CONVERTER_VERSION or "source_sha256" not in record:
        raise WeightsError(f"{path} was written by another version: {again}")
    return tensors, record


def _content_sha256(tensors: Arrays, record: Mapping[str, str]) -> str:
    """Hash names, types, shapes and values of the tensors, and the record."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name}|{value.dtype.str}|{value.shape}".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a file, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
