"""What of a cache is old enough to be deleted: feature sets, models, unfinished trainings."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..data_manifests.errors import VadpipeError
from .models import ModelFolder
from .store.errors import StoreError
from .store.feature_sets import delete_set, set_folders
from .store.keys import folder_name
from .store.locks import training

Kind = Literal["features", "model", "unfinished"]
DAY = 86_400.0


@dataclass(frozen=True)
class Entry:
    """One feature set, model or unfinished training of a cache.

    Attributes:
        kind: which of them.
        name: of its folder.
        path: its folder.
        size: bytes on disk.
        changed: when it was written last, in seconds of `time.time`; a model, when it was trained
            or scored with. A feature set counts as written when a model of it was.
        needed_by: names of the models of this cache that were trained on it, or may have been:
            of a model whose card is damaged nothing is known.
    """

    kind: Kind
    name: str
    path: Path
    size: int
    changed: float
    needed_by: tuple[str, ...] = ()

    @property
    def is_imported(self) -> bool:
        """Whether it is a feature set that was imported, by its name."""
        return self.kind == "features" and self.name.startswith("imported-")

    def days(self, now: float) -> float:
        """Age in days, at least 0: clocks of file servers may be ahead."""
        return max(0.0, now - self.changed) / DAY

    def to_json(self, now: float) -> dict[str, Any]:
        """For `--json`."""
        return {
            "kind": self.kind,
            "name": self.name,
            "bytes": self.size,
            "days": round(self.days(now), 2),
            "needed_by": list(self.needed_by),
        }


@dataclass(frozen=True)
class Deleted:
    """What `delete_entries` did.

    Attributes:
        done: the entries that are gone.
        left: name -> why it stays: a run uses it, or a model was trained on it meanwhile.
    """

    done: list[Entry]
    left: dict[str, str]


def list_entries(cache: Path) -> list[Entry]:
    """Everything of a cache that can be deleted by itself, the oldest first.

    Args:
        cache:
            Root of the cache. Nothing is read but names, sizes, times and the cards of models.
    """
    found = []
    folders = set_folders(cache)
    for folder in ModelFolder.in_cache(cache):
        found.append(Entry("model", folder.path.name, folder.path, *_measure(folder.path)))
    users = users_of_sets(cache)
    for path in _folders(cache / "models" / "unfinished"):
        found.append(Entry("unfinished", path.name, path, *_measure(path)))
    for name, path in folders.items():
        size, changed = _measure(path)
        by = users.get(name, {})
        changed = max([changed, *by.values()])
        found.append(Entry("features", name, path, size, changed, tuple(by)))
    return sorted(found, key=lambda entry: (entry.changed, entry.kind, entry.name))


def users_of_sets(cache: Path) -> dict[str, dict[str, float]]:
    """Feature set -> the models that need it, or may, and when each was written or used last.

    Args:
        cache:
            Root of the cache. Of feature sets only the names are read.
    """
    users: dict[str, dict[str, float]] = {}
    folders = set_folders(cache)
    for folder in ModelFolder.in_cache(cache):
        needed, used = _sets_of(folder), _measure(folder.path)[1]
        for name in folders if needed is None else needed:
            users.setdefault(name, {})[folder.path.name] = used
    return users


def old_entries(
    entries: Collection[Entry],
    *,
    older_than: float,
    keep_models: bool,
    imported: bool = False,
    now: float | None = None,
) -> list[Entry]:
    """Those that nothing has been written to for a time, and that no model which stays needs.

    Args:
        entries:
            Of one cache.
        older_than:
            Days.
        keep_models:
            No model is old, so all that models were trained on stays too.
        imported:
            Take imported feature sets too: no command can make them again from footage.
        now:
            In seconds of `time.time`; None is the clock.
    """
    now = time.time() if now is None else now
    old = [entry for entry in entries if entry.days(now) >= older_than]
    if keep_models:
        old = [entry for entry in old if entry.kind != "model"]
    if not imported:
        old = [entry for entry in old if not entry.is_imported]
    going = {entry.name for entry in old if entry.kind == "model"}
    return [entry for entry in old if going.issuperset(entry.needed_by)]


def delete_entries(cache: Path, old: Collection[Entry]) -> Deleted:
    """Delete entries, models first: what is killed halfway leaves no model without features.

    A feature set that a run writes to, and a model that is being trained, stay; so does a set
    that a model was trained on since it was listed, and every set while a card is damaged.

    Args:
        cache:
            Root of the cache.
        old:
            As `old_entries` returns them.

    Raises:
        OSError: the cache is read-only.
    """
    done, left = [], {}
    for entry in sorted(old, key=lambda entry: entry.kind == "features"):
        try:
            if entry.kind == "features":
                _delete_set(cache, entry)
            else:
                with training(cache / "models" / entry.name):
                    entry.path.unlink() if entry.path.is_symlink() else shutil.rmtree(entry.path)
        except StoreError as error:
            left[entry.name] = str(error)
        else:
            done.append(entry)
    return Deleted(done, left)


def _delete_set(cache: Path, entry: Entry) -> None:
    """Raises StoreError where the set is in use, or where a model has come to need it."""
    for folder in ModelFolder.in_cache(cache):
        needed = _sets_of(folder)
        if needed is None:
            raise StoreError(f"{folder.path.name} is damaged, and may have been trained on it")
        if entry.name in needed:
            raise StoreError(f"{folder.path.name} was trained on it")
    delete_set(cache, entry.name)


def _sets_of(folder: ModelFolder) -> set[str] | None:
    """Names of the feature sets that a model was trained on; None: its damaged card cannot say."""
    try:
        card = folder.card()
        return {
            folder_name(recipe["extractor"], recipe)
            for part in ("features", "twins")
            for recipe in card.get(part, {}).values()
        }
    except (VadpipeError, KeyError, TypeError, AttributeError, ValueError):
        return None


def _folders(root: Path) -> Iterator[Path]:
    yield from (path for path in sorted(root.glob("*")) if path.is_dir())


def _measure(folder: Path) -> tuple[int, float]:
    """Bytes of a folder, and when something in it was written last."""
    size, changed = 0, 0.0
    for where, _, names in os.walk(folder):
        for path in (Path(where), *(Path(where, name) for name in names)):
            try:
                facts = path.lstat()
            except FileNotFoundError:  # a run replaces files while this looks
                continue
            changed = max(changed, facts.st_mtime)
            size += facts.st_size if path != Path(where) else 0
    return size, changed
