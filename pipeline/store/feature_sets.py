"""The feature sets of a cache: which there are, found by name, and deleted."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from ...data_manifests.choices import choices
from ...data_manifests.errors import VadpipeError
from ...data_manifests.stored import leave_out
from .errors import StoreError
from .feature_store import FeatureStore
from .locks import deleting

CURE = (
    "vadpipe cache repair, or extract or import with the settings of the set, writes it again; "
    "vadpipe cache rm deletes the set"
)


def set_folders(cache: Path) -> dict[str, Path]:
    """Name -> folder of each feature set, those included that cannot be opened."""
    folders = sorted((cache / "features").glob("*"))
    return {path.name: path for path in folders if path.is_dir() and path.name[0] != "."}


def unreadable_sets(cache: Path) -> dict[str, VadpipeError]:
    """Name -> why a feature set cannot be opened."""
    found: dict[str, VadpipeError] = {}
    for name, folder in set_folders(cache).items():
        try:
            FeatureStore.open(folder)
        except VadpipeError as error:
            found[name] = error
    return found


def list_stores(cache: Path) -> list[FeatureStore]:
    """All feature sets of a cache, by name. One that cannot be opened is left out and named."""
    stores = []
    for folder in set_folders(cache).values():
        try:
            stores.append(FeatureStore.open(folder))
        except VadpipeError as error:
            leave_out(folder / "spec.json", error, CURE)
    return stores


def chosen_stores(cache: Path, names: Collection[str]) -> list[FeatureStore]:
    """The feature sets of these full names; without any, all.

    Raises:
        StoreError: there is none of that name, or it cannot be opened.
    """
    folders = set_folders(cache)
    for name in names:
        if name not in folders:
            raise StoreError(f"{cache} has no feature set {name!r}; see vadpipe cache ls")
    return [FeatureStore.open(folders[name]) for name in names] if names else list_stores(cache)


def store_like(cache: Path, name: str) -> FeatureStore:
    """The one feature set whose name begins like this.

    Raises:
        StoreError: there is none, or several: the message lists them.
    """
    known = list_stores(cache)
    found = [store for store in known if store.name.startswith(name)]
    if not found:
        there = choices([store.name for store in known], name)
        raise StoreError(f"{cache} needs one feature set {name!r}, has none; there are: {there}")
    if len(found) > 1:
        names = ", ".join(store.name for store in found)
        raise StoreError(f"{cache} needs one feature set {name!r}, has {names}")
    return found[0]


def delete_set(cache: Path, name: str) -> Path:
    """Delete a feature set by its full name, also one that cannot be opened; returns its folder.

    Raises:
        StoreError: there is none of that name, or a run is writing to it.
    """
    folder = set_folders(cache).get(name)
    if folder is None:
        raise StoreError(f"{cache} has no feature set {name!r}; see vadpipe cache ls")
    with deleting(folder):
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
    return folder
