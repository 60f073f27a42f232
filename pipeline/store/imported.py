"""Imported feature sets: found for a model, and known by the checksums of what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...extractors.footage.video import ProbeRow
from .errors import StoreError
from .feature_sets import list_stores
from .feature_store import FeatureStore
from .keys import differing_fields, key_of
from .shard import UNREADABLE, reason_of, row_of


def imported_stores(card: Mapping[str, Any], cache: Path) -> list[FeatureStore]:
    """The imported feature sets that a model was trained on.

    Raises:
        StoreError: one is not in the cache; the message names the fields in which other imported
            sets of that role differ.
    """
    found: dict[str, FeatureStore] = {}
    for role, recipe in card["features"].items():
        if recipe["extractor"] != "imported":
            continue
        store = FeatureStore(cache, recipe)
        if not (store.root / "spec.json").is_file():
            roles = {spec["role"] for spec in store.array_specs()}
            others = [
                f"{s.name} (here != model): {'; '.join(differing_fields(s.recipe, recipe))}"
                for s in list_stores(cache)
                if s.recipe["extractor"] == "imported"
                and roles & {spec["role"] for spec in s.array_specs()}
            ]
            raise StoreError(
                f"the model was trained on imported {role!r} features that are not in {cache}: "
                f"{how_to_import(store)}. Imported sets of that role:{'' if others else ' none'}",
                *(f"  {line}" for line in others),
            )
        found[store.key] = store
    return list(found.values())


def how_to_import(store: FeatureStore) -> str:
    """What to type where features of an imported set are missing."""
    return f"run vadpipe import with --name {store.recipe['config']['name']}"


def checksums_of(stores: Sequence[FeatureStore], contents: Iterable[str]) -> dict[str, list[str]]:
    """content_id -> checksums of its imported features, which no recipe decides.

    They are those of the shards themselves: a run that was killed may have listed none, or others.

    Args:
        stores:
            Imported feature sets.
        contents:
            The videos; one that a set does not have has no checksum of it.

    Raises:
        StoreError: a shard states none.
    """
    found: dict[str, list[str]] = {}
    for content in dict.fromkeys(contents):
        shards = [path for store in stores for *_, path in store.shards(content)]
        if shards:
            found[content] = [_checksum(path) for path in shards]
    return found


def _checksum(path: Path) -> str:
    try:
        return row_of(path).checksum
    except UNREADABLE as error:
        raise StoreError(
            f"{path} states no checksum ({reason_of(path, error)}), and a model is known by those "
            "of what it was trained on: run vadpipe cache verify --drop, then vadpipe import"
        ) from error


def imported_checksums(
    stores: Mapping[str, FeatureStore], rows: Mapping[str, ProbeRow]
) -> dict[str, dict[str, list[str]]]:
    """Role -> content_id -> checksums, of the roles whose features were imported.

    Raises:
        StoreError: a set has no checksum of a video: a key never leaves one out.
    """
    wanted = {row.content_id for row in rows.values()}
    found = {}
    for role, store in stores.items():
        if store.recipe["extractor"] == "imported":
            found[role] = checksums_of([store], wanted)
            if lacking := wanted - found[role].keys():
                raise StoreError(
                    f"{store.name} has no checksum of {len(lacking)} videos, so no model can be "
                    f"known by them: {how_to_import(store)}"
                )
    return found


def imported_contents(checksums: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, Any]:
    """What stands for the numbers of imported features in a model's key: whose they are.

    A recipe decides what an extractor returns, but not what others have extracted.

    Args:
        checksums:
            What `imported_checksums` returns.
    """
    keys = {
        role: key_of({"checksums": {content: list(own) for content, own in sums.items()}})
        for role, sums in checksums.items()
    }
    return {"imported": keys} if keys else {}


def earlier_contents(checksums: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, Any]:
    """The same in models of version 0.1, which did not say which video had which numbers."""
    keys = {
        role: key_of({"checksums": sorted(each for own in sums.values() for each in own)})
        for role, sums in checksums.items()
    }
    return {"imported": keys} if keys else {}
